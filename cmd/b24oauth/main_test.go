package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/filestore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"b24oauth": main})
}

// TestScripts runs the sessions in testdata, each with a portal of its own. Beside
// those of testscript a session has the commands
//
//	portal grant FILE       installs the application and writes what that brings
//	portal expire|kill|rename
//	portal limit|cut|unavailable N
//	portal answer METHOD JSON
//	portal renewed N        fails unless N refresh tokens were exchanged by now
//	age KEY DAYS            lets a grant of the default Store be that old, if it is there
//	exitcode N COMMAND…     runs a command, which must end with this status
//
// and sandbox and program, which stand beside the tests of those.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			srv := b24test.NewServer()
			env.Defer(srv.Close)
			env.Values[portalKey{}] = srv
			env.Values[sandboxKey{}] = new(sandboxProcess)
			env.Vars = append(env.Vars,
				"PORTAL="+srv.URL(),
				"HOST="+strings.TrimPrefix(srv.URL(), "http://"),
				"ENDPOINT="+srv.Endpoint(),
				"BITRIX24_CLIENT_ID="+srv.ClientID(),
				"BITRIX24_CLIENT_SECRET="+srv.ClientSecret(),
				"BITRIX24_TOKEN_URL="+srv.TokenURL(),
				"XDG_DATA_HOME="+env.WorkDir+"/data",
			)
			for _, name := range []string{"B24OAUTH_TEST_POSTGRES", "B24OAUTH_TEST_MYSQL", "B24OAUTH_TEST_REDIS"} {
				env.Vars = append(env.Vars, name+"="+os.Getenv(name))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"portal":   portal,
			"exitcode": exitCode,
			"age":      age,
			"sandbox":  sandboxCommand,
			"program":  programCommand,
		},
	})
}

type portalKey struct{}

// portal does something to the session's portal.
func portal(ts *testscript.TestScript, neg bool, args []string) {
	srv := ts.Value(portalKey{}).(*b24test.Server)
	number := func() int {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		return n
	}
	switch args[0] {
	case "grant":
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(answerOf(srv.Install())), 0o600))
	case "expire":
		srv.ExpireAccessTokens()
	case "kill":
		srv.KillGrants()
	case "rename":
		srv.Rename()
		ts.Setenv("PORTAL", srv.URL())
		ts.Setenv("HOST", strings.TrimPrefix(srv.URL(), "http://"))
	case "limit":
		srv.RateLimit(number())
	case "cut":
		srv.CutTokens(number())
	case "unavailable":
		srv.FailTokens(number(), b24test.Answer{Status: 503})
	case "answer":
		srv.On(args[1], b24test.Answer{Status: 200, Body: args[2]})
	case "renewed":
		if n := srv.Refreshes(); n != number() {
			ts.Fatalf("%d refresh tokens were exchanged, want %d", n, number())
		}
	default:
		ts.Fatalf("portal %s: no such thing", args[0])
	}
}

// age changes when a stored grant was issued.
func age(ts *testscript.TestScript, neg bool, args []string) {
	days, err := strconv.Atoi(args[1])
	ts.Check(err)
	s, err := filestore.Open(ts.Getenv("XDG_DATA_HOME") + "/b24oauth")
	ts.Check(err)
	ts.Check(s.Update(context.Background(), args[0], func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if g != nil {
			g.Issued = g.Issued.AddDate(0, 0, -days)
			g.Expiry = g.Expiry.AddDate(0, 0, -days)
		}
		return g, nil
	}))
}

// answerOf is a grant as Bitrix24 answers it.
func answerOf(g *b24oauth.Grant) string {
	data, err := json.Marshal(map[string]any{
		"access_token": g.AccessToken, "refresh_token": g.RefreshToken, "application_token": g.ApplicationToken,
		"client_endpoint": g.ClientEndpoint, "server_endpoint": g.ServerEndpoint, "member_id": g.MemberID,
		"scope": g.Scope, "status": g.Status, "user_id": g.UserID,
		"expires": g.Expiry.Unix(), "expires_in": int(time.Until(g.Expiry) / time.Second),
	})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// exitCode runs a command that must end with a status.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	status := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[interface {
			error
			ExitCode() int
		}](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		status = exit.ExitCode()
	}
	if status != want {
		ts.Fatalf("%s ended with status %d, want %d", fmt.Sprint(args[1:]), status, want)
	}
}
