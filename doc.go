// Package b24oauth lets any [http.Client] call Bitrix24's REST API without
// ever meeting an expired token.
//
// Bitrix24's access token lives an hour and travels as a parameter named
// auth. Each refresh replaces the refresh token too, and a program that loses
// the new one, because two requests refreshed at once or because it ended
// between the answer and the save, must ask its customer to install it anew.
// This package is the middleware that does not lose it:
//
//   - [Transport] is an [http.RoundTripper]. It puts the token into each
//     request to the portal, and repeats a request once when the portal says
//     that the token has expired.
//   - [TokenSource] is an oauth2.TokenSource. It renews the token before it
//     runs out, once for all who need it, and has the new pair stored before
//     anybody uses it.
//   - [Store] is where grants are kept: in memory, in a directory (package
//     filestore), in a database (sqlstore, redisstore), encrypted over any of
//     them (sealedstore), or wherever its two methods lead.
//   - [Config] ties them together, one for each application.
//
// A program stores the grant that an installation brings, once, and then uses
// a client:
//
//	func run() (err error) {
//		config, err := b24oauth.ConfigFromEnv()
//		…
//		config.Store, err = filestore.Open("/var/lib/example/grants")
//		…
//		defer func() { err = errors.Join(err, config.Flush(context.Background())) }()
//
//		client := config.Client("example")
//		resp, err := client.PostForm("https://example.bitrix24.com/rest/crm.deal.list", form)
//		…
//	}
//
// A renewal outlives the call that started it, so a program that ends without
// [Config.Flush] may lose the grant. Hence main alone calls log.Fatal or
// os.Exit, with the error of run: either skips what is deferred.
//
// # Guarantees
//
// Each has tests that are named after it: go test -run 'Guarantee7' shows the
// seventh.
//
//  1. One renewal at a time: at most one refresh of a grant is in flight, in
//     this process and in all that share the Store, as long as none of them
//     stalls for longer than its lease; then the saved value still decides. A
//     failure is shared within a process like a success.
//  2. Saved before used: a new pair is in the Store before any request carries
//     it. If the Store fails then, the pair is used from memory and saved as
//     soon as the Store allows: for ten seconds by itself, afterwards with
//     later calls and by [Config.Flush]. Each failure is logged and an Event.
//     Without exclusivity in the Store nothing is refreshed at all.
//  3. A caller's context ends only its own waiting, with an error such as
//     net/http's: a net.Error whose Timeout tells a deadline from a
//     cancellation, with the context's error and its cause within. The renewal
//     goes on: callers wait at most
//     Config.RefreshTimeout each for reading the Store, for exclusivity and for
//     the exchange, and ten seconds for saving.
//  4. Nobody fails, and nobody waits, while a token works: not in a process that
//     has just started, nor in one that has adopted another's token, nor for a
//     request that needs no token. The one caller who starts a renewal waits for
//     it, at most a second and at most a quarter of the time to its deadline, and
//     then goes on with the token that works.
//  5. Replayed once, exactly: only after a 401 whose code refuses the token, or
//     may, and only if the body can be had again byte for byte. Otherwise that
//     answer reaches the caller whole. If the renewal fails, a *TokenError does
//     instead. Every other status passes untouched, as soon as its headers are
//     there; a 401 whose code is not there after 64 KiB or five seconds does too.
//  6. A late refusal of an old token never costs a newer one, and a portal
//     cannot make us refresh at will: its refusals and redirects together cost a
//     process at most one exchange of its grant in ten seconds. That pause
//     doubles, up to 15 minutes, if the next one comes within twice the last
//     pause, and else starts at ten seconds again; Config.Save and
//     TokenSource.Renew(ctx, nil) end it. Meanwhile the portal's answer reaches
//     the caller whole.
//  7. A grant's token goes to its portal only, over https and under its portal's
//     Host, also across redirects; the client secret goes only to the configured
//     or a known authorization server; a pair that the server says is another
//     portal's is never used. Plain http is for loopback alone: another http
//     request to the portal's host, but a webhook's or a signed link's, is an
//     error and not sent, if the grant can be read within a second.
//  8. No secret leaves by accident: not in an error, a log line, an event,
//     Response.Request, a Location or another header of an answer, a Referer, or
//     by printing a value of this package.
//  9. A dead grant costs one question to the authorization server, not one for
//     each process: the verdict is stored with the grant. It is asked again
//     after a day, or by TokenSource.Renew(ctx, nil). A failing server costs at
//     most three requests per step of a pause that grows from 1 s to 60 s, or is as
//     long as the server asks, up to 10 min. A Store that is well again is
//     seen within a second.
//  10. Nothing runs while nobody calls: no timer and no goroutine outlives a
//     renewal and the saving of what it brought, except an exchange whose
//     transport ignores the end of its context; the pair that it brings late
//     is saved all the same.
//  11. Constant memory for any body, and at most four allocations more for the
//     usual call.
//  12. A renamed portal is followed, method and body kept, once the authorization
//     server confirms its new address, and still after a restart. Only the
//     redirect of a REST method is asked about, and each host once.
//  13. An answer that was fetched is kept: one that has both new tokens in it
//     goes into the Store, whatever its status, framing or remainder says,
//     though every caller has given up or the lease has ended, and up to five
//     seconds after Config.RefreshTimeout, unless a newer or an unrelated grant
//     is stored by then. What [Config.Exchange] bought with a code is returned,
//     whatever address stands beside it.
//
// # Which grant is the newer one
//
// An installation may be delivered twice, a Store be set back to a backup or
// come up empty. So each grant carries its [Lineage], by which alone is
// decided which of two is the newer: no clock, no counter of writes. A process
// that finds an older grant in the Store puts its own back, and one that finds
// a newer or an unrelated one goes on with that. [Config.Save] of an older
// grant is [ErrOutdated], and stores nothing.
//
// A missing row, file or key is an emptied Store: a process that has the pair
// writes it back. Hence deleting one by hand while a program runs deletes
// nothing; [Config.Delete] does, by storing a tombstone, which is ordered like
// any other grant.
//
// # What can be lost all the same
//
//   - A pair whose process was killed, or whose answer was cut off, between
//     the server's rotation and the save; and one that no Store had taken when
//     the program ended without Flush, which tries again until its context ends.
//   - A Store that fails for longer than its lease after an exchange: other
//     processes report [ErrReauthorize] until the holder of the pair saves it,
//     at its next call.
//   - A Store set back: a process with an old pair may report ErrReauthorize
//     until the one with the newer pair looks, when its token expires at the
//     latest. If none has it, the grant is lost.
//   - An authorization that is delivered for the first time after a later one
//     replaces it.
//   - A grant that nobody uses for 30 days, unless [Config.KeepAlive] sees to it.
//
// # Failure
//
// A request whose token cannot be had fails with a *[TokenError], wrapped in
// the http.Client's *url.Error. errors.Is tells who has to act:
// [ErrReauthorize] a user of the portal, [ErrMisconfigured] the developer, in the
// settings or where the Store is, [ErrPaymentRequired] the portal's owner,
// [ErrNoGrant] whoever was to store the grant, and [ErrUnavailable] nobody, it
// passes. A program need not end for any of them: the Store is looked at again
// with later calls, once a second at most, and a grant that another process or a
// new installation stored is taken up. What somebody may have repaired without a
// new grant, a setting or a payment, is asked about again every ten minutes.
//
// What a portal answers is the caller's, errors included. NO_AUTH_FOUND, with a
// token that works elsewhere, may mean a body that PHP cannot read: see [PlaceAuto].
//
// # Where which rule is found
//
//	internal/renew          when a grant is renewed, by whom, and which of two goes on
//	internal/outgoing       how a request gets its token, and when its body may be sent twice
//	internal/authparam      where PHP looks for auth in a query, a form and a JSON object
//	internal/safehttp       no redirect is followed with a secret, no token request sent twice
//	internal/address        where secrets may go, and when two addresses are one host
//	internal/resterror      which answers of a portal refuse the token
//	internal/tokenrequest   how often the authorization server is asked for one token
//	internal/tokenresponse  which answers of the authorization server bring one
//	internal/lifetime       how long a token lives, whatever is said of it
//	internal/redact         what is left of an error, a panic or a trace without its secrets
//	internal/ctxend         the error of a caller whose own context has ended
//	internal/openapi        what a portal says of its own methods, made fit for generators of clients
//	internal/keylock        exclusivity within a process, by key
//	internal/registry       one source for each key, for as long as anybody uses it
//	internal/setup          the mark of a Store's error that stays until somebody changes its setup
//	internal/setuptest      what meets a mistake in a Store's setup, for tests
//	internal/phptest        what PHP itself makes of a request, for tests
//	internal/canary         planting secrets and searching for them, for tests
//	internal/racetest       whether the race detector runs, for tests
package b24oauth
