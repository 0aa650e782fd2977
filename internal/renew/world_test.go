package renew

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// grant is a pair of an authorization: X.0 is what its installation brought,
// X.1 what the first refresh did. The authorizations are issued in the order
// of their letters.
type grant struct {
	auth           string
	step           int
	access, secret string // the tokens
	member         string
	issued, expiry time.Time
	marks          Marks
}

func (g *grant) name() string {
	switch {
	case g == nil:
		return "nothing"
	case !g.marks.Deleted.IsZero():
		return "a tombstone"
	case g.marks.Refused.Code != "":
		return fmt.Sprintf("%s.%d (refused)", g.auth, g.step)
	}
	return fmt.Sprintf("%s.%d", g.auth, g.step)
}

func (g *grant) fence() string {
	switch {
	case g == nil:
		return ""
	case !g.marks.Deleted.IsZero():
		return fmt.Sprint("deleted ", g.marks.Lineage.Root)
	}
	return g.secret
}

// world is what a Source of the tests has outside: one Store with leases, one
// server whose refresh tokens work once, and processes.
type world struct {
	t    *testing.T
	gate gate

	mu       sync.Mutex // guards what follows
	stored   *grant
	owner    *process // who has the lease; nil if nobody
	ends     time.Time
	released chan struct{}       // closed and replaced when the lease is given back
	alive    map[string]int      // by authorization: the step that the server would exchange
	fetcher  map[string]*process // by authorization: who was sent that pair
	gone     map[string]bool     // by authorization: that pair went with a kill or a cut
	excused  bool                // a fault has happened after which a process may be told wrong, until another one looks
	issued   []string
	spent    int // how often a spent token was exchanged
	writes   int
	requests int             // requests that reached the server
	first    map[string]bool // by authorization: it has been stored
	latest   string          // the last authorization that was stored for the first time
	removed  map[string]bool // by authorization: it was stored before a removal
	log      []func() string
	faults   []string
	procs    []*process
	over     chan struct{} // closed at the end: whoever still waits is let go
}

const lease = 45 * time.Second

func newWorld(t *testing.T) *world {
	w := &world{t: t, released: make(chan struct{}), alive: make(map[string]int), fetcher: make(map[string]*process), gone: make(map[string]bool), first: make(map[string]bool), removed: make(map[string]bool), over: make(chan struct{})}
	w.gate.waiting = make(map[chan struct{}]*ticket)
	return w
}

func (w *world) notef(format string, args ...any) {
	now := time.Now().UTC()
	w.log = append(w.log, func() string { return now.Format("02 15:04:05.000 ") + fmt.Sprintf(format, args...) })
}

// story returns what happened. It is not written while all goes well, which is
// most of the time.
func (w *world) story() string {
	var b strings.Builder
	for _, line := range w.log {
		b.WriteString(line() + "\n")
	}
	return b.String()
}

func (w *world) failf(format string, args ...any) {
	w.notef("FAULT: "+format, args...)
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// start gives the world what every trace begins with: X.1 is stored, X.0 is
// spent, and each process has X.1.
func (w *world) start(names ...string) []*process {
	w.install("X")
	w.alive["X"] = 1
	w.stored = w.pair("X", 1)
	w.stored.marks.Lineage = Lineage{Root: Fingerprint("refresh X.0"), Generation: 1}
	w.first["X"], w.latest = true, "X"
	var ps []*process
	for _, name := range names {
		p := w.process(name)
		if _, f := p.source.Get(context.Background(), Why{}); f != nil {
			w.t.Fatalf("%s cannot load X.1: %v", name, f)
		}
		ps = append(ps, p)
	}
	return ps
}

// install issues an authorization and returns its first pair.
func (w *world) install(auth string) *grant {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.issued = append(w.issued, auth)
	w.alive[auth] = 0
	return w.pair(auth, 0)
}

func (w *world) pair(auth string, step int) *grant {
	name := auth + "." + strconv.Itoa(step)
	return &grant{auth: auth, step: step, access: "access " + name, secret: "refresh " + name, member: "member", issued: time.Now(), expiry: time.Now().Add(time.Hour)}
}

// living reports whether the server would exchange g.
func (w *world) living(g *grant) bool {
	return g != nil && g.marks.Deleted.IsZero() && w.alive[g.auth] == g.step
}

// write judges and carries out what a process writes.
func (w *world) write(p *process, g *grant) {
	before := w.stored
	w.stored = g
	w.writes++
	w.notef("%s stores %s over %s", p.name, g.name(), before.name())
	if !g.marks.Deleted.IsZero() {
		maps.Copy(w.removed, w.first)
		return
	}
	index := slices.Index(w.issued, g.auth)
	switch {
	case w.removed[g.auth]:
		w.failf("RESURRECT: %s brings %s back after its removal", p.name, g.name())
	case !w.living(before), !w.first[g.auth]: // its first delivery, however late, is taken
	case slices.Index(w.issued, before.auth) > index, before.auth == g.auth && before.step > g.step:
		w.failf("CLOBBER: %s overwrites the living %s with %s", p.name, before.name(), g.name())
	}
	if !w.first[g.auth] {
		w.first[g.auth], w.latest = true, g.auth
	}
	if w.living(g) {
		w.fetcher[g.auth], w.gone[g.auth] = nil, false
	}
}

// process is one that has a Source of the grant.
type process struct {
	w      *world
	name   string
	source *Source[*grant]
	killed chan struct{}

	// faults to come, guarded by world.mu
	failLoads, failSaves, lostAcks, cuts, refusals, errs int

	slow       time.Duration // how long an answer takes
	ignoresEnd bool          // of the exchange's context

	events []Event
}

// answersAfter has the server take its time for p's requests, whether p's
// exchanges heed the end of their context or not.
func (p *process) answersAfter(slow time.Duration, ignoresEnd bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.slow, p.ignoresEnd = slow, ignoresEnd
}

// lose notes that the newest pair of auth is lost, as the trace wants it.
func (w *world) lose(auth string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone[auth], w.excused = true, true
}

// sent returns how many requests reached the server.
func (w *world) sent() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

func (w *world) process(name string) *process {
	p := &process{w: w, name: name, killed: make(chan struct{})}
	w.procs = append(w.procs, p)
	p.source = newSource(p)
	return p
}

// newSource returns a Source on an outside of the tests.
func newSource(out Outside[*grant]) *Source[*grant] {
	s := new(Source[*grant])
	s.Init(out, time.Minute, 15*time.Second)
	return s
}

func (p *process) isAlive() bool {
	select {
	case <-p.killed:
		return false
	default:
		return true
	}
}

var errDown = errors.New("the Store is down")

// point is where a process can be stopped, by the schedule or by a kill.
func (p *process) point(name string) error {
	p.w.gate.pass(p, name)
	select {
	case <-p.killed:
		<-p.w.over
		return errors.New("killed")
	case <-p.w.over:
		return errors.New("over")
	default:
		return nil
	}
}

func (p *process) Load(context.Context) (*grant, error) {
	if err := p.point("load"); err != nil {
		return nil, err
	}
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.failLoads > 0 {
		p.failLoads--
		return nil, errDown
	}
	return w.stored.clone(), nil
}

func (g *grant) clone() *grant {
	if g == nil {
		return nil
	}
	c := *g
	return &c
}

func (p *process) Update(ctx context.Context, fn func(context.Context, *grant) (*grant, error)) error {
	w := p.w
	if err := p.point("take"); err != nil {
		return err
	}
	if err := p.take(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	given := w.stored.clone()
	fnCtx, cancel := context.WithDeadline(context.WithoutCancel(ctx), w.ends)
	w.mu.Unlock()
	defer cancel()
	g, err := fn(fnCtx, given.clone())
	if err != nil || g == nil {
		p.release()
		return err
	}
	if err := p.point("save"); err != nil {
		return err
	}
	w.mu.Lock()
	switch {
	case p.failSaves > 0:
		p.failSaves--
		w.notef("%s: the Store fails to save %s", p.name, g.name())
		w.mu.Unlock()
		return errDown // and the lease is kept
	case w.stored.fence() != given.fence():
		w.notef("%s: conflict, %s is stored and not %s", p.name, w.stored.name(), given.name())
		w.mu.Unlock()
		p.release()
		return errConflict
	}
	w.write(p, g.clone())
	if p.lostAcks > 0 {
		p.lostAcks--
		w.mu.Unlock()
		return errDown
	}
	w.mu.Unlock()
	if err := p.point("saved"); err != nil {
		return err
	}
	p.release()
	return nil
}

var errConflict = errors.New("the stored grant has changed meanwhile")

// take waits for the lease. One that a failed save has kept is the process'
// own at once.
func (p *process) take(ctx context.Context) error {
	w := p.w
	for {
		w.mu.Lock()
		now := time.Now()
		if w.owner == nil || w.owner == p || !now.Before(w.ends) {
			w.owner, w.ends = p, now.Add(lease)
			w.mu.Unlock()
			return nil
		}
		released, left := w.released, w.ends.Sub(now)
		w.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-released:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-p.killed:
			<-w.over
			return errors.New("killed")
		}
		timer.Stop()
	}
}

func (p *process) release() {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owner == p {
		w.owner = nil
		close(w.released)
		w.released = make(chan struct{})
	}
}

func (p *process) Renew(ctx context.Context, g *grant, refused bool, may func() *Failure) (*grant, int, *Failure) {
	w := p.w
	v := p.View(g)
	if stale, _ := v.Lifetime(time.Minute, time.Now()); !refused && !time.Now().After(stale) {
		return nil, 0, nil
	}
	if f := may(); f != nil {
		return nil, 0, f
	}
	if err := p.point("send"); err != nil {
		return nil, 1, &Failure{Class: Passing, Err: err}
	}
	next, f := p.exchange(g)
	w.mu.Lock()
	slow, ended := p.slow, ctx.Done()
	if p.ignoresEnd {
		ended = nil
	}
	w.mu.Unlock()
	if slow > 0 {
		late := time.NewTimer(slow)
		defer late.Stop()
		select {
		case <-late.C:
		case <-ended:
			return nil, 1, &Failure{Class: Passing, Err: context.Cause(ctx)}
		}
	}
	if err := p.point("answer"); err != nil {
		return nil, 1, &Failure{Class: Passing, Err: err}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.cuts > 0 {
		p.cuts--
		w.gone[g.auth] = w.gone[g.auth] || f == nil
		w.notef("%s: the answer is cut", p.name)
		return nil, 1, &Failure{Class: Passing, Err: errors.New("cut")}
	}
	return next, 1, f
}

// exchange is what the server does.
func (p *process) exchange(g *grant) (*grant, *Failure) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests++
	switch {
	case p.errs > 0:
		p.errs--
		return nil, &Failure{Class: Passing, Err: errors.New("status 500")}
	case p.refusals > 0:
		p.refusals--
		w.notef("%s: the server wrongly says that %s is dead", p.name, g.name())
		return nil, &Failure{Class: Refused, Code: "invalid_grant"}
	case w.alive[g.auth] != g.step:
		w.spent++
		w.notef("%s: the server says that %s is dead", p.name, g.name())
		return nil, &Failure{Class: Refused, Code: "invalid_grant"}
	}
	w.alive[g.auth]++
	w.fetcher[g.auth], w.gone[g.auth] = p, false
	w.notef("%s: the server exchanges %s", p.name, g.name())
	return w.pair(g.auth, g.step+1), nil
}

func (*process) View(g *grant) View {
	v := View{Issued: g.issued, Expiry: g.expiry, Home: "example.bitrix24.com", Marks: g.marks}
	if g.marks.Deleted.IsZero() {
		v.Access, v.Refresh = g.access, g.secret
	}
	return v
}

func (*process) With(g *grant, m Marks) *grant {
	c := *g
	c.marks = m
	return &c
}

func (*process) StoreFailure(err error, _ ...*grant) *Failure {
	if errors.Is(err, errConflict) {
		return &Failure{Class: Conflict, Err: err}
	}
	return &Failure{Class: StoreFailed, Err: err}
}

func (p *process) Report(e Event) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.events = append(p.events, e)
}

// token asks for a token as a call of the program does.
func (p *process) token() *Failure {
	_, f := p.source.Get(context.Background(), Why{})
	return f
}

// flush is what a program does before it ends.
func (p *process) flush() *Failure {
	return p.source.Flush(context.Background(), make(chan struct{}, 1))
}

// save hands the source a grant from elsewhere.
func (p *process) save(g *grant) *Failure {
	f := p.source.Save(context.Background(), g.clone(), func(over *grant) (*grant, error) {
		if over != nil && over.member != g.member {
			return nil, errors.New("another portal's")
		}
		return g.clone(), nil
	})
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if f != nil {
		p.w.notef("%s: Save(%s): %v", p.name, g.name(), f)
	}
	return f
}

// kill ends a process wherever it is.
func (p *process) kill() {
	close(p.killed)
	p.w.mu.Lock()
	p.w.explainLoss()
	p.w.mu.Unlock()
	p.w.gate.release(p)
}

// explainLoss notes that the newest living pair went with a process that was
// killed, or with the Store's contents, if nobody has it now or is about to
// get it. w.mu is held.
func (w *world) explainLoss() {
	found := w.living(w.stored) && w.stored.auth == w.latest || w.fetcher[w.latest] != nil && w.fetcher[w.latest].isAlive()
	for _, g := range w.held(w.procs) {
		found = found || g.auth == w.latest
	}
	w.gone[w.latest] = w.gone[w.latest] || !found
}

// holds returns what the process would go on with.
func (p *process) holds() *grant {
	if c := p.source.Known(); c != nil {
		return c.Grant
	}
	return nil
}

// gate stops processes at their points, if there is a schedule.
type gate struct {
	mu      sync.Mutex
	closed  bool
	hold    *process // nil, or the one that is stopped although the gate is open
	waiting map[chan struct{}]*ticket
}

type ticket struct {
	p     *process
	point string
}

func (g *gate) pass(p *process, point string) {
	g.mu.Lock()
	if !g.closed && g.hold != p || !p.isAlive() {
		g.mu.Unlock()
		return
	}
	c := make(chan struct{})
	g.waiting[c] = &ticket{p, point}
	g.mu.Unlock()
	<-c
}

// release lets all of a process go on, or of all processes if p is nil.
func (g *gate) release(p *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c, t := range g.waiting {
		if p == nil || t.p == p {
			close(c)
			delete(g.waiting, c)
		}
	}
}

// stopped returns the channels of those that wait at the gate, in an order
// that is the same in each run.
func (g *gate) stopped() []chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := func(c chan struct{}) string { return g.waiting[c].p.name + " " + g.waiting[c].point }
	return slices.SortedFunc(maps.Keys(g.waiting), func(a, b chan struct{}) int { return strings.Compare(key(a), key(b)) })
}

func (g *gate) open(c chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, c)
	close(c)
}

// set closes or opens the gate; an open one still stops hold, if that is not nil.
func (g *gate) set(closed bool, hold *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.hold = closed, hold
	if closed {
		return
	}
	for c, t := range g.waiting {
		if t.p != g.hold {
			close(c)
			delete(g.waiting, c)
		}
	}
}

// until lets p go on from point to point until it waits at the one named, and
// everybody else where they are.
func (w *world) until(p *process, point string) {
	w.t.Helper()
	for range 50 {
		synctest.Wait()
		for _, c := range w.gate.stopped() {
			t := w.gate.ticket(c)
			if t.p != p {
				continue
			}
			if t.point == point {
				return
			}
			w.gate.open(c)
			break
		}
	}
	w.t.Fatalf("%s does not come to %s:\n%s", p.name, point, w.story())
}

func (g *gate) ticket(c chan struct{}) *ticket {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting[c]
}
