package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/b24go/b24oauth"
)

// downAfter is how many grants in a row may not be renewed for a reason that passes,
// before it is taken for the authorization server's or the Store's.
const downAfter = 5

func (p *program) keepalive() *cobra.Command {
	idle := days(20 * 24 * time.Hour)
	cmd := &cobra.Command{
		Use:     "keepalive",
		GroupID: groupGrants,
		Short:   "Renew the grants that nobody has used for long, so that they are not lost",
		Long: `Renews each grant whose tokens were issued longer ago than --idle, at most two in a
second, since Bitrix24 takes a refresh token for 30 days only. It is for a job that
runs once a day. What must be authorized again is told at the end, and the exit status
is 4 then.

Bitrix24 blocks applications that refresh on a schedule what is in use anyway: an
--idle of less than a day is refused.`,
		Example: "  b24oauth keepalive\n  b24oauth keepalive --idle 25d --json",
		Args:    cobra.NoArgs,
		RunE: work(func(ctx context.Context, _ []string) error {
			if d := time.Duration(idle); d < 24*time.Hour || d >= 30*24*time.Hour {
				return misused("--idle %v: write a day at least, since Bitrix24 blocks applications that refresh on a schedule, and less than the 30 days that a refresh token lives", idle)
			}
			return p.withConfig(func(c *b24oauth.Config) error { return p.keepAlive(ctx, c, time.Duration(idle)) })
		}),
	}
	cmd.Flags().Var(&idle, "idle", "how long nobody has used a grant that is renewed: days such as 20d, or hours such as 480h")
	return cmd
}

// kept is what keepalive tells of a grant.
type kept struct {
	Key    string `json:"key"`
	OK     bool   `json:"ok"`
	Error  string `json:"error,omitempty"`
	Repair string `json:"repair,omitempty"`
}

// keepAlive tells of each grant that was renewed or could not be, the latter at the end.
func (p *program) keepAlive(ctx context.Context, c *b24oauth.Config, idle time.Duration) error {
	var (
		failed []error
		told   []kept
		renew  int
		down   int // grants in a row that passing failures have kept from being renewed
	)
	bar := p.bar()
	for key, err := range c.KeepAlive(ctx, idle) {
		if ctx.Err() != nil {
			failed = append(failed, err)
			break
		}
		bar.Add(1) // it is there to be looked at
		if err == nil {
			renew, down = renew+1, 0
			if p.asJSON {
				if err := p.printJSON(kept{Key: key, OK: true}); err != nil {
					return err
				}
			}
			continue
		}
		f := p.explain(&workError{err})
		failed = append(failed, &repairable{err, f.Repair, f.Status})
		told = append(told, kept{Key: key, Error: f.Error, Repair: f.Repair})
		if down++; !errors.Is(err, b24oauth.ErrUnavailable) {
			down = 0
		} else if down == downAfter {
			break // it is no use to ask for hundreds of others
		}
	}
	bar.Finish()
	if err := p.printKept(renew, told); err != nil {
		return err
	}
	return worst(failed)
}

func (p *program) printKept(renewed int, failed []kept) error {
	if p.asJSON {
		for _, k := range failed {
			if err := p.printJSON(k); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := fmt.Fprintf(p.out, "renewed: %d, failed: %d\n", renewed, len(failed)); err != nil {
		return err
	}
	for _, k := range failed {
		if _, err := fmt.Fprintf(p.out, "  %s: %s\n    to repair it: %s\n", shown(k.Key), k.Error, k.Repair); err != nil {
			return err
		}
	}
	return nil
}

// bar is a progress bar on stderr, if that is a terminal and nobody has asked for
// plain output.
func (p *program) bar() *progressbar.ProgressBar {
	f, ok := p.errOut.(*os.File)
	shown := ok && !p.asJSON && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
	w := io.Discard
	if shown {
		w = p.errOut
	}
	return progressbar.NewOptions(-1, // how many are idle is known at the end
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("renewing"),
		progressbar.OptionShowCount(),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionEnableColorCodes(shown && os.Getenv("NO_COLOR") == ""),
	)
}

// days is a flag's length of time, in days (20d) or as time.ParseDuration reads it.
type days time.Duration

func (d *days) String() string {
	if n := time.Duration(*d) / (24 * time.Hour); time.Duration(n)*24*time.Hour == time.Duration(*d) {
		return strconv.Itoa(int(n)) + "d"
	}
	return time.Duration(*d).String()
}

func (d *days) Set(text string) error {
	if number, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n > 365 {
			return fmt.Errorf("%q is no number of days", text)
		}
		*d = days(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	parsed, err := time.ParseDuration(text)
	*d = days(parsed)
	return err
}

func (*days) Type() string { return "duration" }
