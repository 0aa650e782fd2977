//go:build race

package b24oauth_test

// raceEnabled says that allocations are not worth counting.
const raceEnabled = true
