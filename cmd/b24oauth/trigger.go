package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth/cmd/b24oauth/internal/sandbox"
)

func (p *program) trigger() *cobra.Command {
	t := trigger{}
	cmd := &cobra.Command{
		Use:     "trigger EVENT --forward-to URL",
		GroupID: groupDevelop,
		Short:   "Send a program what Bitrix24 would send, from the sandbox",
		Long: `Has the running sandbox send a program what Bitrix24 would send, and says what the
program answered and how fast. Bitrix24 sends an event once, perhaps twice, and
waits little: answer 200 at once and work afterwards.

EVENT is ONAPPINSTALL (a new installation), ONAPPUPDATE, ONAPPUSERREADY,
ONAPPUNINSTALL (after which no token works), another name that begins with ON, such as
ONCRMDEALADD, or

  robot   the call of a workflow's robot
  frame   the form with which a user's browser opens a page of the application

Tokens that come with it work at the sandbox. The exit status is 1 if the program
cannot be reached or answers anything but 2xx.`,
		Example: `  b24oauth trigger ONAPPINSTALL --forward-to http://127.0.0.1:8080/bitrix
  b24oauth trigger ONCRMDEALADD --data 'FIELDS[ID]=7' --forward-to http://127.0.0.1:8080/bitrix
  b24oauth trigger frame --forward-to http://127.0.0.1:8080/bitrix`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return sandbox.Events, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: work(func(ctx context.Context, args []string) error {
			t.event = args[0]
			return p.runTrigger(ctx, t)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&t.forwardTo, "forward-to", "", "the program's address (required)")
	f.StringVar(&t.sandbox, "sandbox", "http://"+sandboxAddress, "the running sandbox's portal")
	f.StringArrayVar(&t.data, "data", nil, "a field of the event's data, NAME=VALUE; may be repeated (of a CRM event by default FIELDS[ID]=1)")
	return cmd
}

type trigger struct {
	event, forwardTo, sandbox string
	data                      []string
}

// runTrigger has the sandbox send an event, since it alone knows the tokens.
func (p *program) runTrigger(ctx context.Context, t trigger) error {
	form, err := t.form()
	if err != nil {
		return err
	}
	outcome, err := p.askSandbox(ctx, t, form)
	if err != nil {
		return err
	}
	if err := p.print(outcome, outcomeText(outcome)); err != nil {
		return err
	}
	if outcome.Status/100 != 2 {
		return withRepair(fmt.Errorf("the program answered %d, so Bitrix24 would take %s for not delivered", outcome.Status, outcome.Event),
			p.self(t.again()...)+"   # once the program answers 200")
	}
	return nil
}

// form is what the sandbox is asked by.
func (t trigger) form() (url.Values, error) {
	event := sandbox.Known(t.event)
	if event == "" {
		return nil, misused("%q is no event: there are %s, and others that begin with ON", t.event, strings.Join(sandbox.Events, ", "))
	}
	if !isHTTP(t.forwardTo) {
		return nil, misused("--forward-to %q: write the program's address, such as http://127.0.0.1:8080/bitrix", t.forwardTo)
	}
	if !isHTTP(t.sandbox) {
		return nil, misused("--sandbox %q: write the portal's address as b24oauth sandbox prints it, such as http://%s", t.sandbox, sandboxAddress)
	}
	form := url.Values{"event": {event}, "forward_to": {t.forwardTo}}
	for _, field := range t.data {
		name, value, ok := strings.Cut(field, "=")
		if !ok || name == "" {
			return nil, misused("--data %q has no name: write NAME=VALUE, such as 'FIELDS[ID]=7'", field)
		}
		base, rest, nested := strings.Cut(name, "[")
		if nested {
			rest = "[" + rest
		}
		form.Add("data["+base+"]"+rest, value)
	}
	return form, nil
}

// again are the arguments of the same call.
func (t trigger) again() []string {
	args := []string{"trigger", t.event, "--forward-to", t.forwardTo}
	for _, field := range t.data {
		args = append(args, "--data", field)
	}
	if t.sandbox != "http://"+sandboxAddress {
		args = append(args, "--sandbox", t.sandbox)
	}
	return args
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// askSandbox posts a form to the running sandbox.
func (p *program) askSandbox(ctx context.Context, t trigger, form url.Values) (outcome sandbox.Outcome, err error) {
	start := p.self(append([]string{"sandbox"}, listenFlag(t.sandbox)...)...) + "   # in another terminal"
	address, err := url.JoinPath(t.sandbox, sandbox.Path, "trigger")
	if err != nil {
		return outcome, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return outcome, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := http.Client{Timeout: sandbox.Patience + 5*time.Second}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return outcome, ctx.Err()
		}
		return outcome, withRepair(fmt.Errorf("the sandbox is not running at %s: %w", t.sandbox, err), start)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&outcome) == nil && outcome.Event != "" {
		return outcome, nil
	}
	var problem sandbox.Problem
	if json.NewDecoder(resp.Body).Decode(&problem) != nil || problem.Description == "" {
		return outcome, withRepair(fmt.Errorf("what answers at %s is no sandbox", t.sandbox), start)
	}
	repair := p.self(t.again()...)
	if problem.Code == "not_installed" {
		install := trigger{event: "ONAPPINSTALL", forwardTo: t.forwardTo, sandbox: t.sandbox}
		repair = p.self(install.again()...)
	}
	return outcome, withRepair(errors.New(problem.Description), repair)
}

// listenFlag is the flag with which a sandbox is started at an address.
func listenFlag(portal string) []string {
	if u, err := url.Parse(portal); err == nil && u.Host != sandboxAddress {
		return []string{"--listen", u.Host}
	}
	return nil
}

// shownLines is how much of a program's answer is shown.
const shownLines = 10

// outcomeText says what a program answered, and how fast.
func outcomeText(o sandbox.Outcome) string {
	text := fmt.Sprintf("%s to %s: %d %s in %.1f ms", o.Event, o.ForwardTo, o.Status, http.StatusText(o.Status), o.Milliseconds)
	lines := strings.Split(strings.TrimSpace(o.Body), "\n")
	if len(lines) > shownLines {
		lines = append(lines[:shownLines], "…")
	}
	if body := strings.Join(lines, "\n  "); body != "" {
		text += "\n  " + body
	}
	return text
}
