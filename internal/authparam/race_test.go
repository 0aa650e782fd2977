//go:build race

package authparam_test

// bigBody is less under the race detector, which is slow at loops over bytes.
const bigBody = 64 << 20
