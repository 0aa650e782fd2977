package install

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/b24go/b24oauth"
)

// Visit is a user who has opened a page of the application in the portal's frame,
// by the word of the authorization server.
type Visit struct {
	Key    string            // of the portal's grant
	Info   *b24oauth.AppInfo // the portal and the application there
	UserID int64             // never 0

	// UserKey is the key of the user's own grant, if Handler.KeyOfUser is set and
	// there is one: the pair with which a user installs the application is the
	// portal's, and he has one of his own from his next visit on.
	UserKey string

	// Placement is where the page is shown and PlacementOptions what Bitrix24 says
	// of that, as JSON, such as the number of a deal. The user can make up either.
	Placement, PlacementOptions string

	token string
}

// Token returns a secret for the page's own script: it sends it to its backend as
// Authorization: Bearer, where [Handler.Session] reads it. It is good for ten
// minutes.
func (v *Visit) Token() string { return v.token }

// Format implements [fmt.Formatter] for every verb, without the token.
func (v *Visit) Format(f fmt.State, _ rune) { io.WriteString(f, v.String()) }

// LogValue implements [slog.LogValuer], without the token.
func (v *Visit) LogValue() slog.Value { return slog.StringValue(v.String()) }

// String tells who visits which portal.
func (v *Visit) String() string {
	if v == nil {
		return "<nil>"
	}
	return fmt.Sprintf("Visit{key=%q user_id=%d}", v.Key, v.UserID)
}

// page answers the request for a page in the portal's frame, after what it brings
// is proven.
func (h *Handler) page(w http.ResponseWriter, r *http.Request, f *form) {
	g, err := frameGrant(f)
	if err == nil {
		err = Reader{h.AllowPrivate}.checkPortal(g)
	}
	if err == nil && g.MemberID == "" {
		err = errors.New("b24oauth/install: the request has no field member_id")
	}
	if err != nil {
		h.say(w, http.StatusBadRequest, err.Error())
		return
	}
	select {
	case h.pages <- struct{}{}:
		defer func() { <-h.pages }()
	default:
		h.refuse(w, r, g.MemberID, errFull)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageBudget)
	defer cancel()
	p, err := h.confirm(ctx, g)
	installing := err == nil && (!p.works || !p.info.Installed)
	if installing {
		err = h.install(ctx, p, g)
	}
	if err == nil && p.user == 0 {
		var u portalUser
		u, err = h.askUser(ctx, p.info.ClientEndpoint, g.AccessToken)
		p.user = u.id
	}
	if err != nil {
		h.refuse(w, r, g.MemberID, err)
		return
	}
	userKey := ""
	if h.KeyOfUser != nil && !installing {
		if userKey, err = h.keepUsers(ctx, p, g); err != nil {
			h.refuse(w, r, g.MemberID, err)
			return
		}
	}
	h.allowFrame(w, p.info)
	if installing && h.Installed != nil {
		if err := h.Installed(ctx, p.key, p.info); err != nil {
			h.log(ctx, "Installed failed, and the installation is not finished", g.MemberID, err)
			h.say(w, http.StatusInternalServerError, "The installation failed: the application's log says why. Please open it again.")
			return
		}
	}
	switch {
	case !p.info.Installed:
		h.show(w, pageData{Script: h.script(), Finish: true})
	case h.Page == nil:
		h.show(w, pageData{})
	default:
		h.Page(w, r, &Visit{
			Key: p.key, Info: p.info, UserID: p.user, UserKey: userKey,
			Placement: f.get("PLACEMENT"), PlacementOptions: f.get("PLACEMENT_OPTIONS"),
			token: h.sign(p.info.MemberID, p.user),
		})
	}
}

// allowFrame lets this portal, and no other, show the page in a frame. The host is
// the one that the authorization server names.
func (h *Handler) allowFrame(w http.ResponseWriter, info *b24oauth.AppInfo) {
	if u, err := url.Parse(info.ClientEndpoint); err == nil {
		w.Header().Set("Content-Security-Policy", "frame-ancestors 'self' "+u.Scheme+"://"+u.Host)
	}
}

func (h *Handler) script() string {
	if h.ScriptURL != "" {
		return h.ScriptURL
	}
	return "https://api.bitrix24.com/api/v1/"
}

type pageData struct {
	Script string
	Finish bool // the installation, which opens the application to all users
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Application</title>
{{if .Finish}}<p>The application is installed.</p>
<script src="{{.Script}}"></script>
<script>BX24.init(function () { BX24.installFinish(); });</script>
{{else}}<p>The application is installed and works.</p>
{{end}}</html>
`))

func (h *Handler) show(w http.ResponseWriter, data pageData) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pageTemplate.Execute(w, data) // fails only if the browser has gone
}
