package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/stores"
)

// The exit statuses.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitAuthorize = 4 // the application must be authorized again
	exitLater     = 5 // it passes by itself
)

// workError is an error of a command's work. Any other that a command returns is
// cobra's, and so a mistake on the command line.
type workError struct{ error }

func (e *workError) Unwrap() error { return e.error }

// usageError is a mistake on the command line that cobra does not find.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func misused(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// repairable is an error with the command that repairs it, and perhaps the exit
// status that it has although its cause says nothing of it.
type repairable struct {
	error
	repair string
	status int // 0: that of the cause
}

func (e *repairable) Unwrap() error { return e.error }

func withRepair(err error, repair string) error { return &repairable{error: err, repair: repair} }

// failure is how an error is told.
type failure struct {
	Error  string `json:"error"`
	Kind   string `json:"kind"`
	Status int    `json:"exit_status"`
	Repair string `json:"repair"`
}

// kinds are the errors that say who has to act.
var kinds = []struct {
	err    error
	kind   string
	status int
}{
	{b24oauth.ErrReauthorize, "reauthorize", exitAuthorize},
	{b24oauth.ErrNoGrant, "no_grant", exitAuthorize},
	{b24oauth.ErrPaymentRequired, "payment_required", exitFailed},
	{b24oauth.ErrMisconfigured, "misconfigured", exitFailed},
	{b24oauth.ErrOutdated, "outdated", exitFailed},
	{b24oauth.ErrContradicted, "contradicted", exitFailed},
	{b24oauth.ErrUnavailable, "unavailable", exitLater},
	{context.DeadlineExceeded, "timeout", exitLater},
	{context.Canceled, "interrupted", exitFailed},
}

// explain says of an error what it is, with which status the command ends and
// which command repairs it.
func (p *program) explain(err error) failure {
	f := failure{Error: strings.TrimPrefix(err.Error(), "b24oauth: "), Kind: "failed", Status: exitFailed}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			f.Kind, f.Status = k.kind, k.status
			break
		}
	}
	_, worked := errors.AsType[*workError](err)
	if _, misused := errors.AsType[*usageError](err); misused || !worked {
		f.Kind, f.Status, f.Repair = "usage", exitUsage, p.help
	}
	if r, ok := errors.AsType[*repairable](err); ok {
		f.Repair = r.repair
		if r.status != 0 {
			f.Status = r.status
		}
	}
	if f.Repair == "" {
		f.Repair = p.repair(err, f.Kind)
	}
	return f
}

// repair returns the command that repairs an error of that kind.
func (p *program) repair(err error, kind string) string {
	if stores.NeedsTable(err) {
		return p.self("create-table")
	}
	key := "KEY"
	if te, ok := errors.AsType[*b24oauth.TokenError](err); ok && te.Key != "" {
		key = te.Key
	}
	switch kind {
	case "reauthorize", "no_grant":
		return p.self("login", "--portal", p.portalOf(key), "--key", key)
	case "payment_required":
		return p.self("check", key, "--expire") + "   # after the payment"
	case "outdated":
		return p.self("status", key)
	case "unavailable", "timeout":
		return p.self("check", key) + "   # in a minute"
	}
	return p.self("status") + " --verbose"
}

// portalOf returns the portal of a stored grant, or what stands for one in a help text.
func (p *program) portalOf(key string) string {
	portal := "NAME.bitrix24.com"
	if s, err := p.open(); err == nil {
		if g, err := s.Load(context.Background(), key); err == nil && hostOf(g) != "" {
			portal = hostOf(g)
		}
		s.Close() // it was read
	}
	return portal
}

// report tells an error on stderr and returns the exit status.
func (p *program) report(err error) int {
	f := p.explain(err)
	if p.asJSON {
		if err := json.NewEncoder(p.errOut).Encode(f); err != nil {
			return exitFailed
		}
		return f.Status
	}
	fmt.Fprintf(p.errOut, "b24oauth: %s\n  to repair it: %s\n", f.Error, f.Repair)
	return f.Status
}
