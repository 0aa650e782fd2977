package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/check"
)

func (p *program) check() *cobra.Command {
	var o check.Options
	cmd := &cobra.Command{
		Use:     "check KEY",
		GroupID: groupGrants,
		Short:   "Tell whether a grant works, step by step, and who has to act if it does not",
		Long: `Looks at what is stored, renews it with --expire, and calls the portal: as far as
that goes, what was found, and who has to act.

A renewal costs an exchange at Bitrix24, which blocks applications that renew on a
schedule: use --expire by hand.`,
		Example:           "  b24oauth check example --expire",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.keys,
		RunE: work(func(ctx context.Context, args []string) error {
			return p.withConfig(func(c *b24oauth.Config) error {
				r, err := check.Run(ctx, c, args[0], o)
				if err != nil {
					return err
				}
				if err := p.print(r, strings.TrimRight(r.String(), "\n")); err != nil || r.OK {
					return err
				}
				return p.unhealthy(r)
			})
		}),
	}
	cmd.Flags().BoolVar(&o.Expire, "expire", false, "renew the grant first, as if its token had expired")
	return cmd
}

// unhealthy is the error of a grant that does not work.
func (p *program) unhealthy(r *check.Report) error {
	err := &repairable{error: errors.New(r.Advice), status: exitFailed}
	switch r.Who {
	case check.User:
		err.status, err.repair = exitAuthorize, p.self("login", "--portal", p.portalOf(r.Key), "--key", r.Key)
	case check.Nobody:
		err.status, err.repair = exitLater, p.self("check", r.Key)+"   # in a minute"
	case check.Owner:
		err.repair = p.self("check", r.Key, "--expire") + "   # after the payment"
	default:
		err.repair = p.self("check", r.Key) + " --verbose"
	}
	return err
}
