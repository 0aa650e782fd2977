//go:build !darwin && !windows

package stores

const dataDir = ".local/share"
