package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// closing tells when a server has begun to end.
type closing struct {
	net.Listener
	once sync.Once
	done chan struct{}
}

func (c *closing) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Listener.Close()
}

func startServing(t *testing.T, log *slog.Logger, h func(ends <-chan struct{}) http.HandlerFunc) (at string, stop func(), ended <-chan error) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &closing{Listener: inner, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	failed := make(chan error, 1)
	go func() { failed <- serve(ctx, l, h(l.done), log) }()
	return "http://" + inner.Addr().String() + "/", cancel, failed
}

func TestARequestThatRunsIsAnsweredAfterTheEndWasAskedFor(t *testing.T) {
	entered := make(chan struct{})
	at, stop, ended := startServing(t, slog.New(slog.DiscardHandler), func(ends <-chan struct{}) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-ends
			io.WriteString(w, "whole")
		}
	})
	answered := make(chan string, 1)
	go func() {
		resp, err := http.Get(at)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answered <- string(body) + errorText(err)
	}()
	<-entered
	stop()
	if got := <-answered; got != "whole" {
		t.Errorf("it was answered %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestWhatTheServerComplainsOfIsWrittenToItsOwnLog(t *testing.T) {
	var log bytes.Buffer
	at, stop, ended := startServing(t, slog.New(slog.NewJSONHandler(&log, nil)), func(<-chan struct{}) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) { panic(errors.New("made up")) }
	})
	if resp, err := http.Get(at); err == nil {
		resp.Body.Close()
		t.Errorf("it was answered %s", resp.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(log.String(), "{") || !strings.Contains(log.String(), "made up") {
		t.Errorf("the log says %q", log.String())
	}
}
