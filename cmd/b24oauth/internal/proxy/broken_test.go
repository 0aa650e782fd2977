package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/cmd/b24oauth/internal/proxy"
)

func TestAProgramThatEndsItsSendingIsNotAnsweredWithNothing(t *testing.T) {
	at := stream(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	host := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/rest/disk.file")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /rest/disk.file HTTP/1.1\r\nHost: %s\r\n\r\n", host)
	c.(*net.TCPConn).CloseWrite()
	if answer, err := io.ReadAll(c); len(answer) > 0 || err != nil {
		t.Errorf("it was answered %q, %v", answer, err)
	}
}

func TestAnAnswerThatBreaksOffBreaksOffForTheProgramAndIsLogged(t *testing.T) {
	log := new(lockedBuffer)
	at := stream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("half"))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, func(o *proxy.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	resp, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil || !bytes.Equal(body, []byte("half")) {
		t.Errorf("%q, %v", body, err)
	}
	if !strings.Contains(log.String(), "unexpected EOF") {
		t.Errorf("the log says %q", log)
	}
}
