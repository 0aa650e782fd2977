// Package compose shows b24oauth among what programs have beside it: a file for each
// companion, as an example that runs and a test of what could go wrong.
package compose
