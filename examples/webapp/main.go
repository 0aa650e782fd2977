// Command webapp is a local application for Bitrix24: it is installed in a portal,
// shows the portal's deals in a page there, and hears of new ones.
//
//	go run ./examples/webapp
//
// starts a portal of its own, on loopback, and tells the address to open in a
// browser. For a real one set BITRIX24_CLIENT_ID and BITRIX24_CLIENT_SECRET to the
// credentials in the application's card, where https://your.host/bitrix is the
// address of its page and of its installation; grants are kept in the folder
// grants then.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/check"
	"github.com/b24go/b24oauth/filestore"
	"github.com/b24go/b24oauth/install"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8023"), func(text string) { fmt.Println(text) }); err != nil {
		fmt.Fprintln(os.Stderr, "webapp:", err)
		stop()
		os.Exit(1)
	}
}

// run serves the application until ctx ends, and tells where it is to be opened.
func run(ctx context.Context, address string, tell func(string)) (err error) {
	app := &application{handler: new(install.Handler)}
	app.config, err = b24oauth.ConfigFromEnv()
	var portal *sandbox
	if err != nil {
		portal = startSandbox()
		defer portal.Close()
		app.config = portal.Config()
		app.config.Store = new(b24oauth.MemoryStore)
		app.handler.AllowPrivate, app.handler.ScriptURL = true, portal.ScriptURL()
	} else if app.config.Store, err = filestore.Open("grants"); err != nil {
		return err
	}
	app.config.Logger = slog.Default()
	defer func() { err = errors.Join(err, app.config.Flush(context.Background())) }()

	// The installation, and whatever else Bitrix24 calls.
	app.handler.Config = app.config
	app.handler.Page = app.page
	app.handler.OnEvent = app.event
	app.handler.Installed = app.installed
	if err := app.handler.Resume(ctx); err != nil {
		return err
	}
	defer app.handler.Close(context.Background())
	mux := http.NewServeMux()
	mux.Handle("/bitrix", app.handler)

	mux.HandleFunc("POST /deals", app.deals)
	mux.Handle("GET /test-bitrix24/token-refresh", check.Handler(app.config, check.Options{}, func(r *http.Request) string {
		return install.Key(app.config.ClientID, r.FormValue("portal_id")) // behind your own authorization
	}))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		server.Shutdown(context.Background())
	}()
	at := fmt.Sprintf("http://localhost:%d/bitrix", l.Addr().(*net.TCPAddr).Port)
	if portal != nil {
		portal.open(mux, at, tell)
	} else {
		tell("The application is served at " + at)
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// application is what the program does with a portal.
type application struct {
	config  *b24oauth.Config
	handler *install.Handler
}

// installed has the portal tell of new deals, at PUBLIC_URL, such as
// https://your.host/bitrix; without one there are no events.
func (a *application) installed(ctx context.Context, key string, info *b24oauth.AppInfo) error {
	slog.Info("installed", "portal", info.ClientEndpoint)
	address := os.Getenv("PUBLIC_URL")
	if address == "" {
		return nil
	}
	return a.call(ctx, key, "event.bind", map[string]any{"event": "ONCRMDEALADD", "handler": address}, new(any))
}

// event hears of what happens in the portal.
func (a *application) event(_ context.Context, e *install.Event, from install.Sender) {
	slog.Info("event", "name", e.Name, "deal", e.Data.Get("FIELDS[ID]"), "user", from.UserID)
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Deals</title>
<h1>Deals of user {{.UserID}}</h1>
<div id="deals">…</div>
<button id="again">again</button>
<script>
	async function show() {
		const answer = await fetch("/deals", {method: "POST", headers: {"Authorization": "Bearer {{.Token}}"}});
		document.getElementById("deals").textContent = await answer.text();
	}
	document.getElementById("again").onclick = show;
	show();
</script>
</html>
`))

// page is shown in the portal's frame. No cookie arrives from there: its script
// shows who it is by the visit's token.
func (a *application) page(w http.ResponseWriter, _ *http.Request, v *install.Visit) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := page.Execute(w, v); err != nil {
		slog.Error("page", "error", err)
	}
}

// deals answers the page's script with what the portal has.
func (a *application) deals(w http.ResponseWriter, r *http.Request) {
	session, err := a.handler.Session(r)
	if err != nil {
		http.Error(w, "open the application again", http.StatusUnauthorized)
		return
	}
	key := install.Key(session.ClientID, session.MemberID)
	titles, err := a.titles(r.Context(), key)
	if err != nil {
		slog.Error("deals", "key", key, "error", err)
		http.Error(w, "the portal does not answer", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, title := range titles {
		fmt.Fprintln(w, title)
	}
}
