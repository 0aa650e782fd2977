package b24test

import (
	"crypto/sha256"
	"math/rand/v2"
)

// identity is who the server takes itself and its one application for.
type identity struct {
	clientID, clientSecret     string
	memberID, applicationToken string
}

// newIdentity makes one of hexadecimal numbers of n bytes.
func newIdentity(hexOf func(n int) string) identity {
	return identity{
		clientID:         "local.b24test." + hexOf(8),
		clientSecret:     hexOf(25),
		memberID:         hexOf(16),
		applicationToken: hexOf(16),
	}
}

// identityAt makes the same one each time for an address.
func identityAt(address string) identity {
	seeded := rand.NewChaCha8(sha256.Sum256([]byte(address)))
	return newIdentity(func(n int) string { return hexOf(seeded, n) })
}
