//go:build !linux

package filestore_test

import "errors"

func diskRole(string) error { return errors.New("for Linux only") }

func otherRole(string) error { return errors.New("for Linux only") }
