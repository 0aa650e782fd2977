package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/stores"
)

// program is what the commands have in common: the flags that all take, and where
// they read and write.
type program struct {
	in          io.Reader
	out, errOut io.Writer

	storeURL, passwordFile, sealKeyFile string
	secretFile, tokenURL                string
	asJSON, verbose                     bool

	help string // the command line that shows the help of the command which has failed
}

func (p *program) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&p.storeURL, "store", os.Getenv("B24OAUTH_STORE"), "where the grants are: "+stores.Forms+" (default: $B24OAUTH_STORE, or the user's data directory)")
	f.StringVar(&p.passwordFile, "store-password-file", "", "a file with the password of the Store's user (default: $"+stores.PasswordVariable+")")
	f.StringVar(&p.sealKeyFile, "seal-key-file", "", "a file with the key by which the tokens in the Store are encrypted: 32 bytes as hexadecimal digits or in base64, a line for each key, of which the first writes")
	f.StringVar(&p.secretFile, "client-secret-file", "", "a file with the application's secret (default: $BITRIX24_CLIENT_SECRET)")
	f.StringVar(&p.tokenURL, "token-url", os.Getenv("BITRIX24_TOKEN_URL"), "the authorization server's token URL, of a self-hosted portal or a sandbox (default: $BITRIX24_TOKEN_URL, or Bitrix24's own server)")
	f.BoolVar(&p.asJSON, "json", false, "print results and errors as JSON")
	f.BoolVarP(&p.verbose, "verbose", "v", false, "log every operation on stderr")
	f.Lookup("store").DefValue, f.Lookup("token-url").DefValue = "", "" // the text says it
}

// work makes a command's function of one that does its work, whose errors are then
// told apart from those that cobra finds on the command line.
func work(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := do(cmd.Context(), args); err != nil {
			return &workError{err}
		}
		return nil
	}
}

// open opens the Store. The caller closes it.
func (p *program) open() (*stores.Opened, error) {
	address := p.storeURL
	if address == "" {
		var err error
		if address, err = stores.Default(); err != nil {
			return nil, withRepair(err, "export B24OAUTH_STORE=file:DIR")
		}
	}
	password, err := fromFile(p.passwordFile, os.Getenv(stores.PasswordVariable))
	if err != nil {
		return nil, err
	}
	s, err := stores.Open(address, password)
	if err != nil {
		if _, ok := errors.AsType[*stores.URLError](err); ok {
			err = &usageError{err}
		}
		return nil, err
	}
	if p.sealKeyFile != "" {
		if err := s.Seal(p.sealKeyFile); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// withStore opens the Store for as long as do runs.
func (p *program) withStore(do func(*stores.Opened) error) (err error) {
	s, err := p.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return do(s)
}

// withConfig opens the Store and reads the application's credentials, for as long
// as do runs, and saves what is not saved by then.
func (p *program) withConfig(do func(*b24oauth.Config) error) error {
	return p.withStore(func(s *stores.Opened) (err error) {
		c, err := p.credentials()
		if err != nil {
			return err
		}
		c.Store = s.Lister
		defer func() { err = errors.Join(err, c.Flush(context.Background())) }()
		return do(c)
	})
}

// credentials returns the application's, with all but the Store.
func (p *program) credentials() (*b24oauth.Config, error) {
	secret, err := fromFile(p.secretFile, os.Getenv("BITRIX24_CLIENT_SECRET"))
	if err != nil {
		return nil, err
	}
	c := &b24oauth.Config{
		ClientID:     strings.TrimSpace(os.Getenv("BITRIX24_CLIENT_ID")),
		ClientSecret: secret,
		TokenURL:     p.tokenURL,
		Logger:       p.briefLogger(),
	}
	if c.ClientID == "" {
		return nil, withRepair(errors.New("the application's client id is not known: it stands in its card in Bitrix24"), "export BITRIX24_CLIENT_ID=local.…")
	}
	if c.ClientSecret == "" {
		if c.ClientSecret, err = p.ask("Client secret of " + c.ClientID + ": "); err != nil {
			return nil, withRepair(errors.New("the application's client secret is not known: it stands in its card in Bitrix24"), "export BITRIX24_CLIENT_SECRET=…")
		}
	}
	return c, nil
}

// ask asks a person at a terminal for a secret, which is not shown.
func (p *program) ask(question string) (string, error) {
	f, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", errors.New("there is no terminal to ask at")
	}
	fmt.Fprint(p.errOut, question)
	answer, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(p.errOut)
	if err == nil && len(answer) == 0 {
		err = errors.New("nothing was typed")
	}
	return strings.TrimSpace(string(answer)), err
}

// readLine reads a line that a person types or pastes. It ends with ctx.
func (p *program) readLine(ctx context.Context) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := bufio.NewReader(p.in).ReadString('\n')
		if err == io.EOF && line != "" {
			err = nil
		}
		done <- read{strings.TrimSpace(line), err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// logger writes to stderr what goes wrong, and with --verbose every operation. It is
// for commands that go on after an error.
func (p *program) logger() *slog.Logger { return slog.New(p.logHandler()) }

// briefLogger is for commands that end with an error, which they tell by themselves:
// without --verbose it has the warnings alone.
func (p *program) briefLogger() *slog.Logger {
	if p.verbose {
		return p.logger()
	}
	return slog.New(warnings{p.logHandler()})
}

func (p *program) logHandler() slog.Handler {
	o := &slog.HandlerOptions{Level: slog.LevelWarn}
	if p.verbose {
		o.Level = slog.LevelDebug
	}
	if p.asJSON {
		return slog.NewJSONHandler(p.errOut, o)
	}
	return slog.NewTextHandler(p.errOut, o)
}

// warnings is a Handler without what is an error.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l < slog.LevelError && h.Handler.Enabled(ctx, l)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}

func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }

// shown returns a text as it is shown in a table or a list: one that could move the
// terminal's cursor, or be taken for two, as a Go string.
func shown(text string) string {
	if text == "" || strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return strconv.Quote(text)
	}
	return text
}

// printJSON prints a result, on one line.
func (p *program) printJSON(v any) error { return json.NewEncoder(p.out).Encode(v) }

// print prints a result as v with --json, and else as text.
func (p *program) print(v any, text string) error {
	if p.asJSON {
		return p.printJSON(v)
	}
	_, err := fmt.Fprintln(p.out, text)
	return err
}

// self returns a command line of this program, with the flags that this call had
// to find its Store.
func (p *program) self(args ...string) string {
	line := []string{"b24oauth"}
	for _, a := range args {
		line = append(line, quote(a))
	}
	for _, f := range []struct{ name, value, env string }{
		{"--store", p.storeURL, "B24OAUTH_STORE"},
		{"--store-password-file", p.passwordFile, ""},
		{"--seal-key-file", p.sealKeyFile, ""},
		{"--client-secret-file", p.secretFile, ""},
		{"--token-url", p.tokenURL, "BITRIX24_TOKEN_URL"},
	} {
		if f.value != "" && (f.env == "" || os.Getenv(f.env) != f.value) {
			line = append(line, f.name, quote(f.value))
		}
	}
	return strings.Join(line, " ")
}

// quote returns a word as a shell reads it.
func quote(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@=%+,…") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// fromFile returns a secret: what stands in the file, if there is one, or the value.
func fromFile(file, value string) (string, error) {
	if file == "" {
		return strings.TrimSpace(value), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if value = strings.TrimSpace(string(data)); value == "" {
		return "", fmt.Errorf("the file %s is empty, where a secret is expected", file)
	}
	return value, nil
}

// keys completes a grant's key.
func (p *program) keys(_ *cobra.Command, args []string, _ string) (keys []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	p.withStore(func(s *stores.Opened) error { // a shell has nowhere to show an error
		for key, err := range (&b24oauth.Config{Store: s.Lister}).Keys(context.Background()) {
			if err == nil {
				keys = append(keys, key)
			}
		}
		return nil
	})
	return keys, cobra.ShellCompDirectiveNoFileComp
}
