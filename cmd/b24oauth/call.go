package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth"
)

func (p *program) call() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:     "call KEY METHOD [name=value…]",
		GroupID: groupCalls,
		Short:   "Call a method of the portal, and print its answer",
		Long: `Calls a REST method of the grant's portal and prints what it answers as it comes.
Parameters are sent as a form, with PHP's brackets, or as the JSON of --data.
Methods of version 3 begin with api/.

The exit status is 0 if the portal answered without an error, 5 if it asks to be
left alone for a while or is not to be had, and 1 for any other error of the portal's.`,
		Example: `  b24oauth call example crm.deal.list 'filter[STAGE_ID]=NEW' 'select[]=ID' start=50
  b24oauth call example crm.deal.add --data '{"fields":{"TITLE":"A deal"}}'
  b24oauth call example api/tasks.task.get --data @task.json`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, args []string) error {
			body, contentType, err := p.body(args[2:], data)
			if err != nil {
				return err
			}
			return p.withConfig(func(c *b24oauth.Config) error {
				resp, err := p.post(ctx, c, args[0], args[1], body, contentType)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				err = p.showAnswer(args[0], resp)
				if resp.StatusCode >= 300 && resp.StatusCode < 400 {
					err = p.unfollowed(ctx, c, args[0], err)
				}
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&data, "data", "", "the parameters as JSON, @FILE to read them from a file, @- from stdin")
	return cmd
}

// body returns what a call sends.
func (p *program) body(params []string, data string) (body, contentType string, err error) {
	if data != "" && len(params) > 0 {
		return "", "", misused("there are parameters and --data: give the one or the other")
	}
	if data == "" {
		form := make(url.Values)
		for _, param := range params {
			name, value, ok := strings.Cut(param, "=")
			if !ok || name == "" {
				return "", "", misused("the parameter %q has no name: write name=value", param)
			}
			form.Add(name, value)
		}
		return form.Encode(), "application/x-www-form-urlencoded", nil
	}
	text := []byte(data)
	switch file, isFile := strings.CutPrefix(data, "@"); {
	case file == "-":
		text, err = io.ReadAll(p.in)
	case isFile:
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return "", "", err
	}
	if !json.Valid(text) {
		return "", "", misused("--data is no JSON")
	}
	return string(text), "application/json", nil
}

var methodName = regexp.MustCompile(`^[A-Za-z0-9_]+([./][A-Za-z0-9_]+)*$`)

// post calls a method of the grant's portal.
func (p *program) post(ctx context.Context, c *b24oauth.Config, key, method, body, contentType string) (*http.Response, error) {
	if !methodName.MatchString(method) {
		return nil, misused("%q is no method: write one like crm.deal.list, or api/tasks.task.get of version 3", method)
	}
	endpoint, err := c.TokenSource(key).Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.JoinPath(method).String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	client := c.Client(key)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	var ofToken *b24oauth.TokenError
	if err != nil && !errors.As(err, &ofToken) && ctx.Err() == nil {
		return nil, &repairable{fmt.Errorf("the portal %s cannot be reached: %w", endpoint.Host, err), p.self("check", key), exitLater}
	}
	return resp, err
}

// showAnswer prints what the portal answered, and returns an error if that is one.
func (p *program) showAnswer(key string, resp *http.Response) error {
	var start prefix
	answer := &reading{Reader: io.TeeReader(resp.Body, &start)}
	_, err := io.Copy(p.out, answer)
	if answer.err != nil {
		return &repairable{fmt.Errorf("the portal's answer broke off: %w", answer.err), p.self("check", key), exitLater}
	}
	if err == nil && !bytes.HasSuffix(start.last, []byte("\n")) {
		_, err = fmt.Fprintln(p.out)
	}
	if err != nil {
		return err
	}
	return p.answered(key, resp.StatusCode, start.data)
}

// answered returns the error that an answer is, nil if it is none.
func (p *program) answered(key string, status int, data []byte) error {
	code := answerCode(data)
	if status < 300 && code == "" {
		return nil
	}
	err := &repairable{fmt.Errorf("the portal answered %d %s", status, code), p.self("check", key), exitFailed}
	switch {
	case status == http.StatusTooManyRequests || status >= 500:
		err.status = exitLater
		err.error = fmt.Errorf("%w: it passes, so call again later", err.error)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		err.error = fmt.Errorf("%w: see whether the application and its user have the permission", err.error)
	}
	return err
}

// unfollowed explains a redirect that was not followed: to a renamed portal one is only if
// the authorization server confirms it, which it does by a renewal.
func (p *program) unfollowed(ctx context.Context, c *b24oauth.Config, key string, err error) error {
	g, failed := c.TokenSource(key).Grant(ctx)
	if failed != nil || g.Refused.Code == "" {
		return err
	}
	return &repairable{fmt.Errorf("%w; the portal may have been renamed, and the authorization server, which would say so, refuses the refresh token: %s", err, g.Refused.Code),
		p.self("login", "--portal", hostOf(g), "--key", key), exitAuthorize}
}

// answerCode returns the error code of an answer, of either version.
func answerCode(data []byte) string {
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(data, &answer) != nil || len(answer.Error) == 0 {
		return ""
	}
	var v3 struct {
		Code any `json:"code"`
	}
	var code string
	if json.Unmarshal(answer.Error, &code) == nil {
		return code
	}
	if json.Unmarshal(answer.Error, &v3) == nil && v3.Code != nil {
		return fmt.Sprint(v3.Code)
	}
	return "an error"
}

// reading tells an error of what is read from one of what is written.
type reading struct {
	io.Reader
	err error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != io.EOF {
		r.err = err
	}
	return n, err
}

// prefix keeps the start of what is written to it, which is all of an error.
type prefix struct{ data, last []byte }

func (w *prefix) Write(p []byte) (int, error) {
	if room := 64<<10 - len(w.data); room > 0 {
		w.data = append(w.data, p[:min(room, len(p))]...)
	}
	w.last = append(w.last[:0], p[max(0, len(p)-1):]...)
	return len(p), nil
}

func (p *program) token() *cobra.Command {
	return p.tokenCommand("token KEY", "Print an access token that works, for other programs",
		"  curl -d auth=\"$(b24oauth token example)\" https://example.bitrix24.com/rest/profile", "")
}

func (p *program) header() *cobra.Command {
	return p.tokenCommand("header KEY", "Print an Authorization header with an access token that works",
		"  curl -H \"$(b24oauth header example)\" https://portal.example.com/rest/profile", "Authorization: Bearer ")
}

// tokenCommand is a command that prints a token, after what stands before it.
func (p *program) tokenCommand(use, short, example, before string) *cobra.Command {
	return &cobra.Command{
		Use:     use,
		GroupID: groupCalls,
		Short:   short,
		Long: short + `.

It works for at least another minute, and is renewed before if it would not. The
header is for self-hosted portals; those of the cloud want the parameter auth.`,
		Example:           example,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, args []string) error {
			return p.withConfig(func(c *b24oauth.Config) error {
				source := c.TokenSource(args[0])
				t, err := source.TokenContext(ctx)
				if err != nil {
					return err
				}
				endpoint, err := source.Endpoint(ctx)
				if err != nil {
					return err
				}
				return p.print(struct {
					AccessToken string    `json:"access_token"`
					Header      string    `json:"header"`
					Endpoint    string    `json:"endpoint"`
					Expiry      time.Time `json:"expiry,omitzero"`
				}{t.AccessToken, "Authorization: Bearer " + t.AccessToken, endpoint.String(), t.Expiry}, before+t.AccessToken)
			})
		}),
	}
}
