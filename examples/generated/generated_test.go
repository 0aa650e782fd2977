package generated

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-faster/jx"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
	"github.com/b24go/b24oauth/examples/generated/oapi"
	"github.com/b24go/b24oauth/examples/generated/ogen"
)

const (
	key   = "example"
	tasks = `{"result":{"items":[{"id":7,"title":"A task","tags":{"1":"urgent"},"parent":{"id":1},"subTasks":[{"id":8}]}]},"time":{"operating":0.1}}`
)

// portal is one whose tasks are as version 3 answers them.
func portal(t *testing.T) (*b24test.Server, *b24oauth.Config) {
	t.Helper()
	srv := b24test.NewServer()
	t.Cleanup(srv.Close)
	config := srv.Config()
	config.Store = new(b24oauth.MemoryStore)
	if err := config.Save(t.Context(), key, srv.Install()); err != nil {
		t.Fatal(err)
	}
	srv.On("tasks.task.list", b24test.Answer{Status: http.StatusOK, Body: tasks})
	srv.On("scopes", b24test.Answer{Status: http.StatusOK, Body: `{"result":{"items":["crm"]}}`})
	return srv, config
}

// client is what the tests ask of either generator's client.
type client struct {
	title func(context.Context) (string, error) // of the first task; its error says what the portal does
	batch func(context.Context) (string, error) // the result of a batch, as JSON
}

func clients(t *testing.T, srv *b24test.Server, config *b24oauth.Config) map[string]client {
	t.Helper()
	base := srv.Endpoint() + "api"
	o, err := oapi.NewClientWithResponses(base, oapi.WithHTTPClient(config.Client(key)))
	if err != nil {
		t.Fatal(err)
	}
	g, err := ogen.NewClient(base, ogen.WithClient(config.Client(key)))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]client{
		"oapi-codegen": {
			func(ctx context.Context) (string, error) {
				r, err := o.TasksTaskListWithResponse(ctx, oapi.TasksTaskListJSONRequestBody{})
				switch {
				case err != nil:
					return "", err
				case r.JSONDefault != nil:
					text, err := json.Marshal(r.JSONDefault.Error)
					return "", errors.Join(errors.New(string(text)), err)
				}
				return *r.JSON200.Result.Items[0].Title, nil
			},
			func(ctx context.Context) (string, error) {
				query := map[string]any{"id": 7}
				r, err := o.BatchWithResponse(ctx, oapi.BatchJSONRequestBody{{Method: "tasks.task.get", Query: &query}})
				if err != nil {
					return "", err
				}
				text, err := json.Marshal(r.JSON200.Result)
				return string(text), err
			},
		},
		"ogen": {
			func(ctx context.Context) (string, error) {
				r, err := g.TasksTaskList(ctx, ogen.OptTasksTaskListReq{})
				if err != nil {
					return "", err
				}
				return r.Result.Value.Items[0].Title.Value, nil
			},
			func(ctx context.Context) (string, error) {
				r, err := g.Batch(ctx, []ogen.BatchReqItem{{Method: "tasks.task.get", Query: ogen.NewOptBatchReqItemQuery(ogen.BatchReqItemQuery{"id": jx.Raw("7")})}})
				if err != nil {
					return "", err
				}
				return string(r.Result), nil
			},
		},
	}
}

// each tries both clients, each with a portal of its own.
func each(t *testing.T, try func(t *testing.T, srv *b24test.Server, config *b24oauth.Config, c client)) {
	t.Helper()
	for _, name := range []string{"oapi-codegen", "ogen"} {
		t.Run(name, func(t *testing.T) {
			srv, config := portal(t)
			try(t, srv, config, clients(t, srv, config)[name])
		})
	}
}

func TestAGeneratedClientCallsWithNothingButTheHTTPClient(t *testing.T) {
	each(t, func(t *testing.T, srv *b24test.Server, _ *b24oauth.Config, c client) {
		if title, err := c.title(t.Context()); title != "A task" || err != nil {
			t.Errorf("%q, %v", title, err)
		}
		result, err := c.batch(t.Context())
		if err != nil || !strings.Contains(result, `"method":"tasks.task.get"`) || !strings.Contains(result, `"id":7`) {
			t.Errorf("the batch brings %s, %v", result, err)
		}
	})
}

func TestAGeneratedClientMeetsNoExpiredToken(t *testing.T) {
	each(t, func(t *testing.T, srv *b24test.Server, _ *b24oauth.Config, c client) {
		srv.ExpireAccessTokens() // of which version 3 says only that access is denied
		if title, err := c.title(t.Context()); title != "A task" || err != nil || srv.Refreshes() != 1 {
			t.Errorf("%q, %v, after %d renewals", title, err, srv.Refreshes())
		}
		refused := srv.Requests()[0]
		if refused.Status != http.StatusUnauthorized || !strings.HasPrefix(refused.Code, "BITRIX_REST_V3_EXCEPTION") {
			t.Errorf("the portal answered %d %s", refused.Status, refused.Code)
		}
	})
}

func TestAGeneratedClientIsToldWhatThePortalRefuses(t *testing.T) {
	each(t, func(t *testing.T, srv *b24test.Server, _ *b24oauth.Config, c client) {
		for _, body := range []string{
			`{"error":{"code":"BITRIX_REST_V3_EXCEPTION_VALIDATIONEXCEPTION","message":"No"}}`,
			`{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}`,
		} {
			srv.RefuseNext(1, b24test.Answer{Status: http.StatusServiceUnavailable, Body: body})
			if _, err := c.title(t.Context()); err == nil || !strings.Contains(err.Error(), "EXCEPTION_VALIDATION") && !strings.Contains(err.Error(), "QUERY_LIMIT") {
				t.Errorf("%s is told as %v", body, err)
			}
		}
		// A 401 that stays is a missing permission: told, and renewed for once.
		srv.RefuseNext(2, b24test.Answer{Status: http.StatusUnauthorized, Body: `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION","message":"Access denied"}}`})
		if _, err := c.title(t.Context()); err == nil || !strings.Contains(err.Error(), "ACCESSDENIED") || srv.Refreshes() != 1 {
			t.Errorf("it is told as %v, after %d renewals", err, srv.Refreshes())
		}
	})
}

func TestAGeneratedClientIsToldOfADeadGrant(t *testing.T) {
	each(t, func(t *testing.T, srv *b24test.Server, _ *b24oauth.Config, c client) {
		srv.ExpireAccessTokens()
		srv.KillGrants()
		_, err := c.title(t.Context())
		if !errors.Is(err, b24oauth.ErrReauthorize) {
			t.Errorf("the error is %v", err)
		}
	})
}

// What is checked in is what the generators make of the document today.
func TestTheClientsAreThoseOfTheDocument(t *testing.T) {
	dir := t.TempDir()
	for file, args := range map[string][]string{
		"oapi/client.gen.go": {"oapi-codegen", "-generate", "types,client", "-package", "oapi", "-o", dir + "/oapi/client.gen.go"},
		"ogen":               {"ogen", "--config", "ogen.yml", "--target", dir + "/ogen", "--package", "ogen", "--clean"},
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", append(append([]string{"tool"}, args...), "../../internal/openapi/testdata/repaired.json")...)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
	}
	files, err := filepath.Glob("o*/*.go")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is generated now, %v: go generate ./...", file, err)
		}
	}
}
