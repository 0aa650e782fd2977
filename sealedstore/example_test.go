package sealedstore_test

import (
	"crypto/aes"
	"crypto/cipher"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/sealedstore"
)

// The key is changed in steps, each in every instance before the next begins:
// an instance that is not yet replaced reads what the new ones write.
func ExampleNew_changeOfTheKey() {
	var store b24oauth.Store = new(b24oauth.MemoryStore) // the one that all instances share
	former, next := aead("32 bytes from a secret's manager"), aead("32 others, which are as secret!!")

	_ = sealedstore.New(store, former)       // before
	_ = sealedstore.New(store, former, next) // 1. the new key reads
	_ = sealedstore.New(store, next, former) // 2. the new key writes
	_ = sealedstore.New(store, next)         // 3. once every grant has been renewed
	// Output:
}

func aead(key string) cipher.AEAD {
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}
