// Package bench puts b24oauth side by side with the best known libraries that
// keep a token: what each does when a hundred goroutines meet a token that has
// run out, a server that refuses or fails, or a caller that gives up.
//
// It has tests only, and a module of its own so that nobody who uses b24oauth
// gets these libraries with it. README.md shows what they measure, and says
// how to run them.
package bench
