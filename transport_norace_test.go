//go:build !race

package b24oauth_test

const raceEnabled = false
