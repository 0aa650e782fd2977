package integration

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth/internal/canary"
)

func TestCanaryStaysInWhenTheCallerGivesUp(t *testing.T) {
	silence := mishap{serve: func(_ *world, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	halfway := mishap{serve: func(_ *world, rw http.ResponseWriter, r *http.Request) {
		rw.Write([]byte(`{"access_token":"`))
		http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	}}
	tests := []struct {
		name           string
		portal, server mishap
	}{
		{"while the portal is silent", silence, mishap{}},
		{"while the portal answers", halfway, mishap{}},
		{"while the authorization server is silent", mishap{}, silence},
		{"while the authorization server answers", mishap{}, halfway},
	}
	ways := map[string]func(t *testing.T) (context.Context, context.CancelFunc){
		"before the call": func(t *testing.T) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx, cancel
		},
		"at its deadline": func(t *testing.T) (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 200*time.Millisecond)
		},
		"by cancelling": func(t *testing.T) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(200*time.Millisecond, cancel)
			return ctx, cancel
		},
	}
	output := capture(t)
	var worlds []*world
	for _, test := range tests {
		for way, give := range ways {
			t.Run(test.name+" "+way, func(t *testing.T) {
				var calls sync.WaitGroup
				var own []*world
				for _, c := range restClients {
					w := newWorld(t, test.portal, test.server)
					w.config.Store = nil // in memory
					w.install(w.portal.URL+"/rest/", test.portal.serve != nil)
					client, more := c.build(w)
					own = append(own, w)
					calls.Go(func() {
						ctx, cancel := give(t)
						defer cancel()
						w.call(ctx, client, w.portal.URL+"/rest/")
						_, err := w.config.Exchange(ctx, w.code, "")
						w.collect(canary.Error(err))
						w.collect(more())
					})
				}
				calls.Wait()
				for i, w := range own {
					w.search(restClients[i].name)
				}
				worlds = append(worlds, own...)
			})
		}
	}
	written := output()
	for _, w := range worlds {
		w.secrets.Check(t, "afterwards", written)
	}
}
