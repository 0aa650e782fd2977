// Package renew decides when a grant is renewed, by whom, and which of two
// grants goes on. It knows no HTTP, no Bitrix24 and no database: what it needs
// of the world is the interface [Outside].
//
// # States
//
// What callers use is the current grant; what is done about it is a job, of
// which a [Source] has one at a time. Outside of a job, what callers see is
// what the last job left.
//
//	                     ┌───────── Load: a grant ──────────┐
//	                     │                                  ▼
//	nothing known ──── a job ──── Load: nothing ────▶ no grant (Missing)
//	                     │                                  │ Save
//	                     ▼                                  ▼
//	   ┌──────────── usable: fresh ◀──────────────────── a job
//	   │                 │ time                             ▲
//	   │                 ▼                                  │
//	   │ refused    usable: stale ── a caller starts ───────┤
//	   │                 │ time       a renewal, the others │
//	   │                 ▼            go on                 │
//	   └──────────▶ not usable ────── callers wait ─────────┘
//
//	A renewal:  Load ▶ exclusivity ▶ the same grant still? ▶ exchange ▶ save
//	              │         │                 │                 │         │
//	              └─────────┴── newer stored: ┴─ adopt it       │         └ fails: unsaved
//	                                                            │            │
//	             verdict, stored in the same Update ◀─ refused ─┤            ▼
//	             pause, in memory ◀──────────────── any other ──┘     the next job saves
//
// An unsaved grant is used from memory and saved before it is refreshed. A
// tombstone in the Store ends all of this: the grant is dropped, unsaved or not.
//
// # What keeps a Source from renewing now
//
//	memory           about            set by                   cleared by             until
//	---------------  ---------------  -----------------------  ---------------------  ----------------------
//	View.Refused     a refresh token  the server's verdict     Save, any newer pair,  a day, then asked once
//	                                  (stored with the grant)  Force
//	failure,         a pair           a failed renewal         a job that succeeds,   1 s to 1 min, growing,
//	exchange, steps                                            another pair           or as the server asks;
//	                                                                                  10 min if permanent
//	failure, reload  the Store        one that fails, or has   a job that succeeds    1 s
//	                                  nothing to go on
//	tellStore        reports of the   such a report            a job that succeeds    1 s to 1 min, growing
//	                 Store's failure                           and leaves no unsaved
//	                                                           pair
//	astray           a pair           an exchange that was     its return             10 min
//	                                  given up and has not
//	                                  returned
//	declined         a caller's       a refusal that no        a job that succeeds    1 s
//	                 reason           renewal answers
//	refusal,         the portal       a renewal for a refusal  Save, Delete, Force    10 s, doubled by the
//	refusalPause                      or a redirect                                   next one up to 15 min;
//	                                                                                  10 s again after twice
//	                                                                                  the pause without one
//	ambiguous        a token          a renewal for a refusal  a repetition that      the token's end
//	                                  without a reason         succeeds
//	unconfirmedHosts a portal's host  a redirect that no       Save                   32 other ones
//	                                  renewal confirmed
//	save             an unsaved pair  a failed save            a save that succeeds   1 s
//
// All but the first are one process' own.
package renew
