package install

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/reserved"
)

// Bitrix24 sends an event once and wants its answer at once, and to prove what it
// brings takes longer and may fail for a while. So it is pending in the Store by
// the time of the answer: in one of a few slots, which are used again, so that
// whoever sends forged ones cannot fill the Store, nor push out what is pending.

const (
	pendingSlots = 64
	pendingFor   = time.Hour // as long as an access token lives, without which nothing is proven
	firstPause   = time.Second
	lastPause    = time.Minute

	// freeBudget is for a slot of which a process that was killed may have the
	// lease. What stays in it is found to be older when it is proven again.
	freeBudget = 5 * time.Second
)

var errFull = errors.New("b24oauth/install: as many requests as fit are being worked on, or pending")

// A pending event is kept as its grant, with its name in the Status, which the
// exchange of the pair brings anew.
func pendingGrant(event string, g *b24oauth.Grant) *b24oauth.Grant {
	kept := *g
	kept.Status = event
	return &kept
}

func (h *Handler) store() b24oauth.Store {
	if h.Config.Store != nil {
		return h.Config.Store
	}
	return &h.memory
}

// keep keeps an event in a slot that is free, or returns the one that has it
// already. Where it looks first depends on the pair, so that one that is delivered
// again is found at once.
func (h *Handler) keep(ctx context.Context, g *b24oauth.Grant) (slot int, _ error) {
	select {
	case h.keeps <- struct{}{}:
		defer func() { <-h.keeps }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	sum := sha256.Sum256([]byte(g.RefreshToken))
	first := binary.BigEndian.Uint32(sum[:])
	for i := range uint32(pendingSlots) {
		slot := int((first + i) % pendingSlots)
		var mine bool
		err := h.store().Update(ctx, reserved.Pending(h.Config.ClientID, slot), func(_ context.Context, have *b24oauth.Grant) (*b24oauth.Grant, error) {
			switch {
			case have != nil && have.Fence() == g.Fence():
				mine = true
				return nil, nil
			case have != nil && time.Since(have.Issued) < pendingFor:
				return nil, nil
			}
			mine = true
			return g, nil
		})
		switch {
		case err != nil:
			return 0, fmt.Errorf("b24oauth/install: the event cannot be kept: %w", err)
		case mine:
			return slot, nil
		}
	}
	return 0, errFull
}

// free ends what is pending in a slot, if it is g.
func (h *Handler) free(ctx context.Context, slot int, g *b24oauth.Grant) error {
	return h.store().Update(ctx, reserved.Pending(h.Config.ClientID, slot), func(_ context.Context, have *b24oauth.Grant) (*b24oauth.Grant, error) {
		if have == nil || have.Fence() != g.Fence() {
			return nil, nil
		}
		return nil, b24oauth.ErrDelete
	})
}

// Resume goes on with what was received before a restart and is not proven yet.
// Call it once after the start, in any number of processes: what is proven twice
// is stored once. It returns when it has looked; the error is the Store's.
func (h *Handler) Resume(ctx context.Context) error {
	h.start()
	var errs []error
	for slot := range pendingSlots {
		g, err := h.store().Load(ctx, reserved.Pending(h.Config.ClientID, slot))
		switch {
		case errors.Is(err, b24oauth.ErrNoGrant):
		case err != nil:
			errs = append(errs, err)
		default:
			h.pursue(slot, g)
		}
	}
	return errors.Join(errs...)
}

// pursue proves what is pending in a slot, detached, unless this process does
// already. It is false if the Handler is closed. A slot is used again as soon as it
// is free, so that what counts is what is in it.
func (h *Handler) pursue(slot int, g *b24oauth.Grant) bool {
	fence := g.Fence()
	h.mu.Lock()
	proving := h.proving[slot] == fence
	h.proving[slot] = fence
	h.mu.Unlock()
	if proving {
		return true
	}
	begun := h.detach(func(ctx context.Context) { h.seeTo(ctx, slot, g) })
	if !begun {
		h.proved(slot, fence)
	}
	return begun
}

func (h *Handler) proved(slot int, fence string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proving[slot] == fence {
		delete(h.proving, slot)
	}
}

// seeTo proves what is pending, again and again while the answer is none, until
// its access token is used up, and frees the slot. When ctx ends it stays.
func (h *Handler) seeTo(ctx context.Context, slot int, g *b24oauth.Grant) {
	defer h.proved(slot, g.Fence())
	end := g.Issued.Add(pendingFor)
	event := g.Status
	delivered := *g
	delivered.Status = ""
	for pause := firstPause; time.Now().Before(end); pause = min(2*pause, lastPause) {
		err := guarded(func() error { return h.prove(ctx, event, &delivered) })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			h.log(ctx, event+" was not followed", g.MemberID, err)
		}
		if err == nil || !passes(err) {
			break
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
	// Before the slot is free: whoever takes it then is to be seen to.
	h.proved(slot, g.Fence())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), freeBudget)
	defer cancel()
	if err := h.free(ctx, slot, g); err != nil {
		h.log(ctx, "what was pending stays in the Store, for an hour at most", g.MemberID, err)
	}
}

// event answers an event, or the call of a robot, as soon as what it brings is
// kept.
func (h *Handler) event(w http.ResponseWriter, r *http.Request, f *form) {
	e := readEvent(f)
	err := f.err
	if err == nil {
		err = Reader{h.AllowPrivate}.checkPortal(e.Grant)
	}
	if err == nil && e.Grant.MemberID == "" {
		err = errors.New("b24oauth/install: the event has no field auth[member_id]")
	}
	switch {
	case err != nil:
		h.say(w, http.StatusBadRequest, err.Error())
	case bringsPair[e.Name] && (e.Grant.AccessToken == "" || e.Grant.RefreshToken == ""):
		h.say(w, http.StatusBadRequest, errNoPair.Error())
	case bringsPair[e.Name] && f.size > maxGrant: // all of it would be kept before it is proven
		h.say(w, http.StatusRequestEntityTooLarge, "The request is too large for an event that brings a pair.")
	case bringsPair[e.Name]:
		g := pendingGrant(e.Name, e.Grant)
		slot, err := h.keep(r.Context(), g)
		if err != nil || !h.pursue(slot, g) {
			h.busy(w, r, e, err)
			return
		}
		h.say(w, http.StatusOK, "OK")
	default:
		h.handOn(w, r, e)
	}
}

// busy answers an event that cannot be taken now. Nothing of it is kept.
func (h *Handler) busy(w http.ResponseWriter, r *http.Request, e *Event, err error) {
	if err != nil {
		h.log(r.Context(), "an event was sent away", e.Grant.MemberID, err)
	}
	w.Header().Set("Retry-After", "60")
	h.say(w, http.StatusServiceUnavailable, "Please send it again in a minute.")
}
