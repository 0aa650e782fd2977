package integration

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// fleetProcess is a process of the fleet, seen from the test.
type fleetProcess struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed when it says no more

	killedAt time.Time // zero: it was not
	orders   int       // given so far

	mu      sync.Mutex // guards what follows
	served  map[fleetServed]bool
	holds   map[string]bool          // access tokens that it got through with
	answers map[string][]fleetAnswer // by refresh token
	saved   map[string]bool          // refresh tokens
	done    map[int]fleetDone
	report  *fleetReport
	rest    []string // lines that are no fleetWord
}

func startFleetProcess(t *testing.T, task fleetTask) *fleetProcess {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	p := &fleetProcess{
		name:    task.Process,
		cmd:     exec.Command(os.Args[0], "-test.run=^TestFleetProcess$", "-test.timeout=30m"),
		ended:   make(chan struct{}),
		served:  make(map[fleetServed]bool),
		holds:   make(map[string]bool),
		answers: make(map[string][]fleetAnswer),
		saved:   make(map[string]bool),
		done:    make(map[int]fleetDone),
	}
	p.cmd.Env = append(os.Environ(), fleetVariable+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	go p.listen(stdout)
	return p
}

func (p *fleetProcess) listen(stdout io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 64<<20) // a report is one line
	for lines.Scan() {
		p.hear(lines.Bytes())
	}
	io.Copy(io.Discard, stdout)
}

func (p *fleetProcess) hear(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var w fleetWord
	switch err := json.Unmarshal(line, &w); {
	case err != nil:
		p.rest = append(p.rest, string(line))
	case w.Served != nil:
		p.served[*w.Served] = true
	case w.Holds != nil:
		p.holds[w.Holds.Token] = true
	case w.Answer != nil:
		refresh := w.Answer.RefreshToken
		p.answers[refresh] = append(p.answers[refresh], *w.Answer)
	case w.Saved != "":
		p.saved[w.Saved] = true
	case w.Done != nil:
		p.done[w.Done.ID] = *w.Done
	case w.Report != nil:
		p.report = w.Report
	}
}

// kill ends the process without asking it, and waits for its end.
func (p *fleetProcess) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	p.killedAt = time.Now()
	p.cmd.Process.Kill()
	<-p.ended
	p.cmd.Wait()
}

// finish waits until the process, whose standard input was closed, has ended
// by itself, and returns its report.
func (p *fleetProcess) finish(t *testing.T) fleetReport {
	t.Helper()
	limit := time.NewTimer(settleBound)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		t.Fatalf("process %s does not end", p.name)
	}
	err := p.cmd.Wait()
	if err != nil || p.report == nil {
		t.Fatalf("process %s ended with %v and the report %v, saying:\n%s", p.name, err, p.report, strings.Join(p.rest, "\n"))
	}
	return *p.report
}

func (p *fleetProcess) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// isServed reports whether all its callers got through with the token.
func (p *fleetProcess) isServed(s fleetServed) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.served[s]
}

// fates returns what became of the answers to its exchanges of the refresh
// token, those left out that were a refusal.
func (p *fleetProcess) fates(refresh string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var fates []string
	for _, a := range p.answers[refresh] {
		fates = append(fates, a.Fate)
	}
	return fates
}

// heard returns the pair that it got for the refresh token.
func (p *fleetProcess) heard(refresh string) (fleetPair, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.answers[refresh] {
		if a.Fate == heard {
			return a.Pair, true
		}
	}
	return fleetPair{}, false
}

// fetched reports whether the pair came to it as an answer.
func (p *fleetProcess) fetched(pair fleetPair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, answers := range p.answers {
		for _, a := range answers {
			if a.Fate == heard && a.Pair == pair {
				return true
			}
		}
	}
	return false
}

func (p *fleetProcess) gotThroughWith(access string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holds[access]
}

func (p *fleetProcess) hasSaved(refresh string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.saved[refresh]
}

// order has the process save a grant. It returns the order's number.
func (p *fleetProcess) order(t *testing.T, key string, g *b24oauth.Grant) int {
	t.Helper()
	raw, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	p.orders++
	o := fleetOrder{p.orders, key, raw}
	line, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		t.Errorf("process %s takes no order: %v", p.name, err)
	}
	return o.ID
}

func (p *fleetProcess) outcome(id int) (fleetDone, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.done[id]
	return d, ok
}
