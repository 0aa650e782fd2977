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
//     filestore), in a database (sqlstore, redisstore), or wherever its two
//     methods lead.
//   - [Config] ties them together, one for each application.
//
// A program stores the grant that an installation brings, once, and then uses
// a client:
//
//	config, err := b24oauth.ConfigFromEnv()
//	…
//	config.Store, err = filestore.Open("/var/lib/example/grants")
//	…
//	client := config.Client("example")
//	resp, err := client.PostForm("https://example.bitrix24.com/rest/crm.deal.list", form)
//	…
//	err = config.Flush(ctx) // before the program ends
//
// # Guarantees
//
//  1. One renewal at a time: at most one refresh of a grant is in flight, in
//     this process and in all that share the Store, as long as none of them
//     stalls for longer than its lease; then the saved value still decides. A
//     failure is shared within a process like a success.
//  2. Saved before used: a new pair is in the Store before any request carries
//     it. If the Store fails then, the pair is used from memory and saved as
//     soon as the Store allows. Without exclusivity in the Store nothing is
//     refreshed at all.
//  3. A caller's context ends only its own waiting. The renewal goes on,
//     bounded by Config.RefreshTimeout.
//  4. Nobody waits while the token still works, but the one caller who started
//     the renewal.
//  5. Replayed once, exactly: only after the portal refused the token, and only
//     if the body can be had again byte for byte.
//  6. A late refusal of an old token never costs a newer one.
//  7. A grant's token goes to its portal only, over https, also across
//     redirects; the client secret goes only to the configured or a known
//     authorization server.
//  8. No secret leaves by accident: not in an error, a log line, an event,
//     Response.Request, a Location or Referer, or by printing a value of this
//     package.
//  9. A dead grant costs one call to the authorization server per process, until
//     the Store holds another; a failing server costs at most three requests
//     per step of a growing pause.
//  10. Nothing runs while nobody calls: no timer and no goroutine outlives a
//     renewal.
//  11. Constant memory for any body.
//  12. A renamed portal is followed, method and body kept, once the authorization
//     server confirms its new address.
//
// # Failure
//
// A request whose token cannot be had fails with a *[TokenError], wrapped in
// the http.Client's *url.Error. errors.Is tells who has to act:
// [ErrReauthorize] a user of the portal, [ErrClientRejected] the developer,
// [ErrPaymentRequired] the portal's owner, [ErrNoGrant] whoever was to store
// the grant, and [ErrUnavailable] nobody, it passes.
package b24oauth
