// Command b24oauth is Bitrix24's OAuth at the shell: it shows, checks, renews and
// moves the grants that a program of package [b24oauth] has stored, calls a portal
// with them, and is a portal itself to develop against.
//
//	b24oauth sandbox                          a portal to develop against, on loopback
//	b24oauth login --portal example.bitrix24.com
//	b24oauth status                           every stored grant, and how it is
//	b24oauth check KEY --expire               does it work, and who has to act
//	b24oauth call KEY crm.deal.list start=50  one call
//	b24oauth proxy KEY                        for programs in any language
//
// The exit status is 0 if it worked, 1 if it failed, 2 for a mistake on the command
// line, 4 if the application must be authorized again and 5 if it passes by itself.
// Each error names the command that repairs it.
//
// The application's credentials are BITRIX24_CLIENT_ID and BITRIX24_CLIENT_SECRET
// of the environment. No secret stands on a command line, and none in an output but
// that of token, header, export and sandbox, which are there for it, and of proxy, which
// tells the token of its own that it has made.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run is the whole command. It returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	p := &program{in: in, out: out, errOut: errOut}
	root := p.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	p.help = cmd.CommandPath() + " --help"
	p.asJSON = p.asJSON || slices.Contains(args, "--json") // a mistake before it ends the reading of flags
	return p.report(err)
}

// root returns the tree of commands.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "b24oauth",
		Short: "Bitrix24's OAuth at the shell: grants, calls, and a portal to develop against",
		Long: `b24oauth shows, checks, renews and moves stored grants of Bitrix24, calls portals
with them, and is a portal itself to develop against.

The application's credentials come from BITRIX24_CLIENT_ID and
BITRIX24_CLIENT_SECRET; the secret also from a file, or it is asked for.

Exit status: 0 it worked, 1 it failed, 2 a mistake on the command line,
4 the application must be authorized again, 5 try again later.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.errOut)
	p.flags(root)
	root.AddGroup(
		&cobra.Group{ID: groupDevelop, Title: "To develop:"},
		&cobra.Group{ID: groupGrants, Title: "Grants:"},
		&cobra.Group{ID: groupCalls, Title: "Calls:"},
	)
	root.AddCommand(
		p.sandbox(), p.trigger(), p.login(), p.status(), p.list(), p.check(), p.importGrants(), p.exportGrants(), p.delete(), p.keepalive(), p.createTable(),
		p.call(), p.token(), p.header(), p.proxy(), p.openapi(),
	)
	return root
}

// version is that of the module, as it was installed: (devel) from a checkout.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// The groups in which the help shows the commands.
const (
	groupDevelop = "develop"
	groupGrants  = "grants"
	groupCalls   = "calls"
)
