// Package bench puts b24oauth side by side with the best known libraries that
// keep a token: what each does when a hundred goroutines meet a token that has
// run out, a server that refuses or fails, or a caller that gives up.
//
// It has tests only, and a module of its own so that nobody who uses b24oauth
// gets these libraries with it:
//
//	go test                                     compares with testdata/table.md
//	go test -run TestScenarios -update          measures it anew
//	go test -run TestScenarios -table           prints it
//	go test -run '^$' -bench . -count 6         times a call with a valid token
package bench
