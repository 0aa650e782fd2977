package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/openapi"
)

func (p *program) openapi() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "openapi KEY",
		GroupID: groupCalls,
		Short:   "Fetch the portal's OpenAPI document, repaired for generators of clients",
		Long: `Fetches what the portal says of its methods of version 3, as an OpenAPI document, and
repairs it: generators refuse the one that portals give, and their clients could not
read its lists. The address in it is an example: give the client that of your portal,
and b24oauth.Config.Client to call with.`,
		Example: `  b24oauth openapi example -o portal.json
  go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen -generate types,client -package portal portal.json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, args []string) error {
			return p.withConfig(func(c *b24oauth.Config) error { return p.fetchOpenAPI(ctx, c, args[0], file) })
		}),
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "the file to write (default: stdout)")
	return cmd
}

func (p *program) fetchOpenAPI(ctx context.Context, c *b24oauth.Config, key, file string) error {
	resp, err := p.post(ctx, c, key, "api/rest.documentation.openapi", "{}", "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, openapi.MaxSize+1))
	if err != nil {
		return &repairable{fmt.Errorf("the portal's answer broke off: %w", err), p.self("openapi", key), exitLater}
	}
	if err := p.answered(key, resp.StatusCode, data); err != nil {
		return err
	}
	document, methods, err := openapi.Repair(data)
	if err != nil {
		return withRepair(err, p.self("call", key, "api/rest.documentation.openapi", "--data", "{}"))
	}
	if file == "" {
		_, err := p.out.Write(document)
		return err
	}
	if err := replaceFile(file, document); err != nil {
		return err
	}
	return p.print(map[string]any{"file": file, "methods": methods}, fmt.Sprintf("wrote %s (methods: %d)", file, methods))
}

// replaceFile writes a file whole or not at all.
func replaceFile(file string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name()) // what is left if that fails too is a file of another name
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	return err
}
