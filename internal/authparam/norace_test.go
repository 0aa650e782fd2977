//go:build !race

package authparam_test

const bigBody = 1 << 30
