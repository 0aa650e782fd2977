package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/renew"
)

var errNoInstaller = errors.New("b24oauth/install: the user is no administrator of the portal and not the one whose grant is stored, so the pair is not stored")

// proof is what is known of a grant that has arrived.
type proof struct {
	key   string
	info  *b24oauth.AppInfo
	user  int64           // whose it is; 0 if that was not asked
	have  *b24oauth.Grant // what is stored; nil if nothing is, or nothing of use
	works bool            // have is not known to be dead
}

// confirm asks the authorization server whose a grant's access token is, and looks
// at what is stored for that portal.
func (h *Handler) confirm(ctx context.Context, g *b24oauth.Grant) (*proof, error) {
	info, err := h.Config.Confirm(ctx, g)
	if err != nil {
		return nil, err
	}
	p := &proof{key: h.key(info.MemberID), info: info, user: info.UserID}
	p.have, err = h.Config.TokenSource(p.key).Grant(ctx)
	switch {
	case err == nil:
		p.works = p.have.Refused.Code == ""
	case errors.Is(err, b24oauth.ErrNoGrant), errors.Is(err, b24oauth.ErrReauthorize): // of a former ClientID
	default:
		return nil, err
	}
	return p, nil
}

// install stores the pair that follows g, if its user may install the application.
// Asked before the exchange, the portal keeps a stranger from spending anything;
// asked again with what the exchange brought, it says whose the refresh token is.
func (h *Handler) install(ctx context.Context, p *proof, g *b24oauth.Grant) error {
	before, err := h.askUser(ctx, p.info.ClientEndpoint, g.AccessToken)
	if err != nil {
		return err
	}
	if !before.mayInstall(p.have) {
		return errNoInstaller
	}
	p.user = before.id
	err = h.Config.Redeem(ctx, p.key, g, func(ctx context.Context, renewed *b24oauth.Grant) error {
		after, err := h.askUserAfter(ctx, renewed)
		switch {
		case err != nil:
			return err
		case after.id != before.id || !after.mayInstall(p.have):
			return fmt.Errorf("%w: the refresh token is of the user %d and the access token of %d", errNoInstaller, after.id, before.id)
		}
		renewed.UserID = after.id
		return nil
	})
	return h.deliveredAgain(ctx, p.key, err)
}

// deliveredAgain forgives a pair that is not stored because it is older than what is,
// if that works: it may be older than a deletion, too, or dead.
func (h *Handler) deliveredAgain(ctx context.Context, key string, err error) error {
	if !errors.Is(err, b24oauth.ErrOutdated) {
		return err
	}
	have, failure := h.Config.TokenSource(key).Grant(ctx)
	switch {
	case failure == nil && have.Refused.Code == "":
		return nil
	case failure == nil || errors.Is(failure, b24oauth.ErrNoGrant):
		return err
	}
	return failure
}

// ledTo reports whether have is g, a pair as it was delivered, or descends from it, or
// has replaced it. Its refresh token is spent then, or in use: a page that is loaded
// again brings the pair that has installed the application, which is not to be
// exchanged for another key.
func ledTo(g, have *b24oauth.Grant) bool {
	if have == nil {
		return false
	}
	root := renew.Fingerprint(g.RefreshToken)
	return have.RefreshToken == g.RefreshToken || have.Lineage.Root == root || slices.Contains(have.Lineage.Former, root)
}

// keepUsers stores the pair that follows that of the user who visits, under a key of
// his own, unless a working one is there, or the
// pair is the one that the portal's grant comes from.
func (h *Handler) keepUsers(ctx context.Context, p *proof, g *b24oauth.Grant) (key string, _ error) {
	key = h.KeyOfUser(h.Config.ClientID, p.info.MemberID, p.user)
	have, err := h.Config.TokenSource(key).Grant(ctx)
	switch {
	case err == nil && have.Refused.Code == "":
		return key, nil
	case err != nil && !errors.Is(err, b24oauth.ErrNoGrant) && !errors.Is(err, b24oauth.ErrReauthorize):
		return "", err
	case ledTo(g, p.have):
		return "", nil
	}
	err = h.Config.Redeem(ctx, key, g, func(ctx context.Context, renewed *b24oauth.Grant) error {
		after, err := h.askUserAfter(ctx, renewed)
		if err == nil && after.id != p.user {
			err = fmt.Errorf("b24oauth/install: the refresh token is of the user %d and the access token of %d, so the pair is not stored", after.id, p.user)
		}
		renewed.UserID = after.id
		return err
	})
	if err := h.deliveredAgain(ctx, key, err); err != nil {
		return "", err
	}
	return key, nil
}

// adoptSystemUser stores the pair that follows that of a system user, if the
// program takes it for one.
func (h *Handler) adoptSystemUser(ctx context.Context, p *proof, g *b24oauth.Grant) error {
	if h.SystemUser == nil {
		return errors.New("b24oauth/install: ONAPPUSERREADY has brought a pair, and install.Handler has no SystemUser to say whether it is to be used")
	}
	err := h.Config.Redeem(ctx, p.key, g, func(ctx context.Context, renewed *b24oauth.Grant) error {
		after, err := h.askUserAfter(ctx, renewed)
		if err != nil {
			return err
		}
		renewed.UserID = after.id
		return h.SystemUser(ctx, renewed)
	})
	return h.deliveredAgain(ctx, p.key, err)
}

// prove does what an event with a pair is about.
func (h *Handler) prove(ctx context.Context, event string, g *b24oauth.Grant) error {
	p, err := h.confirm(ctx, g)
	switch {
	case err != nil:
		return err
	case event == systemUserReady:
		return h.adoptSystemUser(ctx, p, g)
	case event == "ONAPPTEST" && p.works:
		return nil // no installation
	}
	if err := h.install(ctx, p, g); err != nil {
		return err
	}
	if h.Installed != nil && event != "ONSUBSCRIPTIONRENEW" && event != "ONAPPTEST" {
		return h.Installed(ctx, p.key, p.info)
	}
	return nil
}
