package stores

const dataDir = `AppData\Local`
