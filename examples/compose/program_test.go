package compose

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// A server that ends gracefully answers what it has begun, and saves what was renewed for
// it, before its process ends.
func Example_graceful() {
	srv, config := portal()
	defer srv.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Println(serve(ctx, config, func(address string) {
		call(http.DefaultClient, srv, "profile")
		stop() // as a signal does
	}))
	// Output: <nil>
}

// serve is a program's run: it returns its errors, so that nothing that is deferred is
// skipped.
func serve(ctx context.Context, config *b24oauth.Config, ready func(address string)) (err error) {
	defer func() {
		ending, cancel := context.WithTimeout(context.Background(), 10*time.Second) // ctx has ended
		defer cancel()
		err = errors.Join(err, config.Flush(ending))
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	go ready(l.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}

func aead(t *testing.T) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm
}
