package integration

import (
	"fmt"
	"slices"
	"time"
)

// Why a grant was lost that had to be: nobody who lives could know its newest
// pair.
const (
	lostToKill   = "a kill before the answer"
	lostToSave   = "a kill between the answer and its save"
	lostToCut    = "an answer cut before its first byte"
	lostToStall  = "a stall longer than the lease"
	lostToBackup = "a Store set back or emptied, and the death of all who had the pair"
)

var lossesInBound = []string{lostToKill, lostToSave, lostToCut, lostToStall, lostToBackup}

const (
	// suspicion is how long it takes to call a grant lost: longer than what
	// is still on its way, from a killed process to the database, takes to
	// arrive.
	suspicion = time.Second

	// unlooked is how long the newest pair of a grant may be in the hands of
	// processes that do not look, until their tokens end.
	unlooked = 2 * suspicion
)

// suspect is a newest pair that seems to be lost, or that is not stored while
// a process has it.
type suspect struct {
	pair  fleetPair
	lost  bool
	since time.Time
}

// standing is how a grant stands.
type standing struct {
	newest fleetPair
	lost   string        // why; empty: it is not lost
	holder *fleetProcess // one who has the newest pair, if it is not stored
}

// replaceLost installs the application anew for every grant that is lost.
func (f *fleet) replaceLost(r *fleetRound) {
	f.t.Helper()
	now := time.Now()
	for _, key := range fleetKeys {
		s := f.standing(key, r)
		last, isLost := f.suspects[key], s.lost != ""
		switch {
		case !isLost && s.holder == nil:
			delete(f.suspects, key)
		case last.pair != s.newest || last.lost != isLost:
			f.suspects[key] = suspect{s.newest, isLost, now}
		case isLost && now.Sub(last.since) >= suspicion:
			f.lose(r, key, s.lost)
		}
	}
}

// onlyExpiryHelps reports whether all would have got through but for grants
// that were set back or taken away: those who have the newest pair do not look
// before their token ends, and the others cannot know of it.
func (f *fleet) onlyExpiryHelps(r *fleetRound) bool {
	waiting := false
	for _, key := range fleetKeys {
		s, held := f.suspects[key]
		held = held && !s.lost && r.hurt[key] && time.Since(s.since) >= unlooked
		if !held && !f.served(key) {
			return false
		}
		waiting = waiting || held
	}
	return waiting
}

func (f *fleet) lose(r *fleetRound, key, why string) {
	f.t.Helper()
	f.t.Logf("grant %q is lost to %s", key, why)
	if !slices.Contains(lossesInBound, why) {
		f.t.Errorf("grant %q need not have been lost:\n%s", key, f.describe())
	}
	r.lost[key] = true
	f.tally.lost[why]++
	delete(f.suspects, key)
	f.install(key)
}

// standing follows the pairs of a grant from its installation to the newest
// one, and says who has that. What counts is the log of the server, which must
// have refused a token of the grant in this round, what was sent to the
// processes, and which of them live.
func (f *fleet) standing(key string, r *fleetRound) standing {
	s := standing{newest: f.newestPair(key)}
	stored, refused, fate := f.stored(key), false, ""
	asked := false
	for _, req := range f.srv.TokenRequests() {
		refresh := refreshOf(req)
		if refresh != s.newest.Refresh && (stored == nil || refresh != stored.RefreshToken) {
			continue
		}
		refused = refused || req.Code == "invalid_grant"
		if refresh != s.newest.Refresh || !mayHaveRotated(req) {
			continue
		}
		asked = true
		switch why := f.fateOf(f.all[req.Header.Get(processHeader)], refresh, r); {
		case why == "":
			return s // still on its way
		case fate == "":
			fate = why
		}
	}
	switch {
	case asked && refused:
		s.lost = fate
	case asked, stored != nil && stored.RefreshToken == s.newest.Refresh:
	default:
		s.holder = f.holder(s.newest)
		if s.holder == nil && (refused || stored == nil) {
			s.lost = f.whoLost(key, s.newest, r)
		}
	}
	return s
}

func (f *fleet) newestPair(key string) fleetPair {
	last := f.installs[key][len(f.installs[key])-1]
	pair := fleetPair{last.AccessToken, last.RefreshToken}
next:
	for {
		for _, p := range f.all {
			if next, ok := p.heard(pair.Refresh); ok {
				pair = next
				continue next
			}
		}
		return pair
	}
}

// fateOf says what became of the answer to an exchange that brought no pair to
// the process; empty if that is not known yet.
func (f *fleet) fateOf(p *fleetProcess, refresh string, r *fleetRound) string {
	answered := f.authorization.answeredAt(refresh)
	fates := p.fates(refresh)
	switch {
	case f.killed[p.name] && !answered.IsZero() && answered.Before(p.killedAt):
		return lostToSave
	case f.killed[p.name]:
		return lostToKill
	case len(fates) == 0:
		return ""
	case r.stalled[p.name]:
		return lostToStall
	case answered.IsZero() && fates[0] == cut:
		return lostToCut
	}
	if answered.IsZero() {
		return fmt.Sprintf("%s, which lives: it gave the exchange up (%v) before an answer was sent", p.name, fates)
	}
	return fmt.Sprintf("%s, which lives: its exchange ended as %v, though the answer began %v ago", p.name, fates, time.Since(answered).Round(time.Millisecond))
}

// holder returns a process that lives and has the pair; nil if none has.
func (f *fleet) holder(pair fleetPair) *fleetProcess {
	for _, p := range f.processes {
		if p.gotThroughWith(pair.Access) || p.fetched(pair) {
			return p
		}
	}
	return nil
}

// whoLost says to what a pair was lost that had arrived somewhere.
func (f *fleet) whoLost(key string, pair fleetPair, r *fleetRound) string {
	if r.hurt[key] {
		return lostToBackup
	}
	for _, p := range f.all {
		if p.hasSaved(pair.Refresh) {
			return fmt.Sprintf("nobody knows what: %s has saved it", p.name)
		}
	}
	for _, p := range f.all {
		if f.killed[p.name] && p.fetched(pair) {
			return lostToSave
		}
	}
	return "nobody knows what: who had it was not killed"
}
