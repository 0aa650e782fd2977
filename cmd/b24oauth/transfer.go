package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/cmd/b24oauth/internal/stores"
	"github.com/b24go/b24oauth/sealedstore"
)

// transfer is a grant on its way from one Store to another: a line of an export.
type transfer struct {
	Key    string          `json:"key"`
	Sealed bool            `json:"sealed"` // its tokens are encrypted, bound to the key
	Grant  json.RawMessage `json:"grant"`  // the stored form, or Bitrix24's own names
}

func (p *program) exportGrants() *cobra.Command {
	var plain bool
	cmd := &cobra.Command{
		Use:     "export [KEY…]",
		GroupID: groupGrants,
		Short:   "Print stored grants as JSON, to import them elsewhere",
		Long: `Prints each grant, or all, on a line of JSON. The tokens are encrypted by the key of
--seal-key-file, so that the file is of no use to others; with --plain they are not.

A refresh token works once. After the import stop what uses the grants here, and
delete them: of two copies, the one that renews first takes the grant from the other.`,
		Example:           "  b24oauth export --seal-key-file key > grants.jsonl\n  b24oauth import --seal-key-file key --store redis://localhost/0 < grants.jsonl",
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, keys []string) error {
			if !plain && p.sealKeyFile == "" {
				return misused("an export has tokens in it: encrypt them with --seal-key-file, or write them in plain text with --plain")
			}
			return p.withStore(func(s *stores.Opened) error {
				var failed []error
				if len(keys) == 0 {
					keys, failed = storedKeys(ctx, s)
				}
				for _, key := range keys {
					if err := p.exportGrant(ctx, s, key, plain); err != nil {
						failed = append(failed, fmt.Errorf("grant %q: %w", key, err))
					}
				}
				return worst(failed)
			})
		}),
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "write the tokens in plain text")
	return cmd
}

func (p *program) exportGrant(ctx context.Context, s *stores.Opened, key string, plain bool) error {
	g, err := s.Load(ctx, key)
	if err != nil {
		return err
	}
	if !g.Deleted.IsZero() {
		return fmt.Errorf("%w: it was deleted on %s", b24oauth.ErrNoGrant, g.Deleted.Format(time.DateOnly))
	}
	if !plain {
		if g, err = p.seal(ctx, key, g); err != nil {
			return err
		}
	}
	data, err := g.MarshalBinary()
	if err != nil {
		return err
	}
	return p.printJSON(transfer{key, !plain, data})
}

// seal returns the grant with its tokens encrypted, as a Store would keep it.
func (p *program) seal(ctx context.Context, key string, g *b24oauth.Grant) (*b24oauth.Grant, error) {
	keys, err := stores.ReadKeys(p.sealKeyFile)
	if err != nil {
		return nil, err
	}
	var memory b24oauth.MemoryStore
	if err := put(ctx, sealedstore.New(&memory, keys[0]), key, g); err != nil {
		return nil, err
	}
	return memory.Load(ctx, key)
}

// unseal is the opposite of seal.
func (p *program) unseal(ctx context.Context, key string, g *b24oauth.Grant) (*b24oauth.Grant, error) {
	if p.sealKeyFile == "" {
		return nil, misused("the tokens of grant %q are encrypted: name the key that they were exported with by --seal-key-file", key)
	}
	keys, err := stores.ReadKeys(p.sealKeyFile)
	if err != nil {
		return nil, err
	}
	var memory b24oauth.MemoryStore
	if err := put(ctx, &memory, key, g); err != nil {
		return nil, err
	}
	return sealedstore.New(&memory, keys[0], keys[1:]...).Load(ctx, key)
}

func put(ctx context.Context, s b24oauth.Store, key string, g *b24oauth.Grant) error {
	return s.Update(ctx, key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return g, nil })
}

func (p *program) importGrants() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "import [KEY]",
		GroupID: groupGrants,
		Short:   "Store grants from JSON: an export, or what Bitrix24 answers",
		Long: `Reads what export has printed, or under KEY one grant as Bitrix24 answers it:
{"access_token","refresh_token","client_endpoint","member_id","expires_in",…}.

A grant that is older than the stored one, or of another portal, is not stored.`,
		Example: "  b24oauth import --file grants.jsonl --seal-key-file key\n  curl -s -X POST http://127.0.0.1:8024/_sandbox/install | b24oauth import demo",
		Args:    cobra.MaximumNArgs(1),
		RunE: work(func(ctx context.Context, args []string) (err error) {
			in := p.in
			if file != "" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			key := ""
			if len(args) == 1 {
				key = args[0]
			}
			return p.withConfig(func(c *b24oauth.Config) error { return p.importFrom(ctx, c, in, key) })
		}),
	}
	cmd.Flags().StringVar(&file, "file", "", "the file to read (default: stdin)")
	return cmd
}

// importFrom stores every grant that can be, and tells of each.
func (p *program) importFrom(ctx context.Context, c *b24oauth.Config, in io.Reader, key string) error {
	var failed []error
	dec := json.NewDecoder(in)
	for n := 1; ; n++ {
		var value json.RawMessage
		if err := dec.Decode(&value); err == io.EOF {
			if n == 1 {
				return errors.New("there is nothing to import: the input is empty")
			}
			return worst(failed)
		} else if err != nil {
			return errors.Join(worst(failed), fmt.Errorf("value %d of the input is no JSON", n)) // the error may quote it
		}
		name, err := p.importOne(ctx, c, value, key)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed = append(failed, fmt.Errorf("value %d of the input: %w", n, err))
			continue
		}
		if err := p.print(map[string]string{"imported": name}, "imported "+shown(name)); err != nil {
			return err
		}
	}
}

func (p *program) importOne(ctx context.Context, c *b24oauth.Config, value []byte, key string) (string, error) {
	var line transfer
	if json.Unmarshal(value, &line) != nil {
		return "", errors.New("it is no JSON object")
	}
	if line.Grant == nil {
		line = transfer{Key: key, Grant: value}
	}
	if line.Key == "" {
		return "", misused("the grant has no key in it: name one, as in %s", p.self("import", "KEY"))
	}
	if key != "" && key != line.Key {
		return "", misused("the grant was exported under the key %q: import it without a KEY, since its tokens may be bound to that", line.Key)
	}
	g, err := readGrant(line.Grant)
	if err != nil {
		return "", err
	}
	if line.Sealed {
		if g, err = p.unseal(ctx, line.Key, g); err != nil {
			return "", err
		}
	}
	return line.Key, c.Save(ctx, line.Key, g)
}

// readGrant reads a grant in its stored form, or as Bitrix24 answers it. An error
// quotes nothing of it.
func readGrant(data []byte) (*b24oauth.Grant, error) {
	g := new(b24oauth.Grant)
	if g.UnmarshalBinary(data) == nil {
		return g, nil
	}
	var answer struct {
		AccessToken      string      `json:"access_token"`
		RefreshToken     string      `json:"refresh_token"`
		ClientID         string      `json:"client_id"`
		ClientEndpoint   string      `json:"client_endpoint"`
		ServerEndpoint   string      `json:"server_endpoint"`
		MemberID         string      `json:"member_id"`
		ApplicationToken string      `json:"application_token"`
		Scope            string      `json:"scope"`
		Status           string      `json:"status"`
		UserID           json.Number `json:"user_id"`
		Expires          json.Number `json:"expires"`
		ExpiresIn        json.Number `json:"expires_in"`
	}
	if json.Unmarshal(data, &answer) != nil || answer.AccessToken == "" && answer.RefreshToken == "" {
		return nil, errors.New(`it is no grant: {"access_token":"…","refresh_token":"…","client_endpoint":"https://example.bitrix24.com/rest/",…} is expected, with numbers and texts where Bitrix24 has them`)
	}
	g = &b24oauth.Grant{
		AccessToken: answer.AccessToken, RefreshToken: answer.RefreshToken, ApplicationToken: answer.ApplicationToken,
		ClientID: answer.ClientID, ClientEndpoint: answer.ClientEndpoint, ServerEndpoint: answer.ServerEndpoint, MemberID: answer.MemberID,
		Scope: answer.Scope, Status: answer.Status, Issued: time.Now(),
	}
	if id, err := answer.UserID.Int64(); err == nil {
		g.UserID = id
	}
	// A token that arrived a while ago says by expires when it ends; without that it
	// is renewed before its first use rather than trusted.
	if at, err := answer.Expires.Int64(); err == nil && at > 0 {
		g.Expiry = time.Unix(at, 0)
	}
	return g, nil
}

func (p *program) delete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete KEY",
		GroupID: groupGrants,
		Short:   "Delete a stored grant, in such a way that no running program brings it back",
		Long: `Deletes a stored grant, in such a way that no running program brings it back: a
new authorization does. The portal goes on regarding the application as installed.`,
		Example:           "  b24oauth delete example --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, args []string) error {
			key := args[0]
			return p.withConfig(func(c *b24oauth.Config) error {
				if _, err := c.TokenSource(key).Grant(ctx); errors.Is(err, b24oauth.ErrNoGrant) {
					return &repairable{err, p.self("list") + "   # shows the keys there are", exitFailed}
				}
				if !yes {
					fmt.Fprintf(p.errOut, "The portal has to be authorized again after this. Type the key %s to delete its grant: ", quote(key))
					answer, err := p.readLine(ctx)
					if err != nil && err != io.EOF {
						return err
					}
					if answer != key {
						return withRepair(errors.New("nothing was deleted: the key was not typed"), p.self("delete", key, "--yes"))
					}
				}
				if err := c.Delete(ctx, key); err != nil {
					return err
				}
				return p.print(map[string]string{"deleted": key}, "deleted "+shown(key))
			})
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
