package stores

const dataDir = "Library/Application Support"
