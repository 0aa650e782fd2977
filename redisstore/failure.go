package redisstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/b24go/b24oauth/internal/setup"
	"github.com/redis/go-redis/v9"
)

const (
	checkUser     = "check the user and the password that the client connects with"
	checkVersion  = "check that the client's address is that of a Redis 6 or later with all of the commands that the package's documentation names"
	grantCommands = "give the ACL's user the commands and the keys that the package's documentation names"
)

// answers are those of Redis about which something can be done, by the words
// that they begin with or have in them, as a script's have. The sources are
// src/server.c, acl.c, cluster.c and script*.c of Redis 6 to 8. Those that stay
// do so until somebody acts; all others pass, as LOADING, CLUSTERDOWN, MASTERDOWN,
// TRYAGAIN, BUSY, and MISCONF, which a full disk causes.
var answers = []struct {
	has, remedy string
	stays       bool
}{
	{"READONLY", "connect to the master, as a Sentinel or cluster client does by itself", false},
	{"OOM command", "raise maxmemory, or remove what is no grant", false},
	{"NOPERM", grantCommands, true},
	{"can't run this command", grantCommands, true}, // in a script
	{"NOAUTH", checkUser, true},
	{"WRONGPASS", checkUser, true},
	{"invalid password", checkUser, true},
	{"AUTH <password> called without any password configured", checkUser, true},
	{"WRONGTYPE", "something else than a grant has its name: take another Prefix, or remove it", true},
	{"DENIED Redis is running in protected mode", "set a password or bind addresses on the server", true},
	{"DB index is out of range", "check the DB of the client's options", true},
	{"SELECT is not allowed in cluster mode", "leave out the DB of the client's options: a cluster has only the first", true},
	{"cluster support disabled", "the server is none of a cluster: use redis.NewClient", true},
	{"unknown command", checkVersion, true},
	{"nknown Redis command", checkVersion, true}, // in a script
}

// failed is the error for a call that Redis did not answer, or not well. It
// says what to do about it, if that is known, and is one of the setup if Redis'
// own answer stays until somebody does it.
func (s *Store) failed(what string, err error) error {
	var answer redis.Error
	if answered := errors.As(err, &answer); answered {
		for _, a := range answers {
			if !strings.Contains(answer.Error(), a.has) {
				continue
			}
			err := fmt.Errorf("b24oauth/redisstore: %s: %w; %s", what, err, a.remedy)
			if a.stays {
				return setup.Wrong(err)
			}
			return err
		}
		if _, single := s.client.(*redis.Client); single && strings.HasPrefix(answer.Error(), "MOVED ") {
			return setup.Wrong(fmt.Errorf("b24oauth/redisstore: %s: %w; the server is one of a cluster: use redis.NewClusterClient", what, err))
		}
	}
	return fmt.Errorf("b24oauth/redisstore: %s: %w", what, err)
}
