//go:build race

// Package racetest tells a test whether the race detector runs. Under it loops
// over bytes take many times as long, and allocations are not the program's
// own: a test of full size runs out of time, and one that counts is wrong.
package racetest

// Enabled reports whether the race detector runs.
const Enabled = true
