// Package appinfo reads what an authorization server's app.info answered: which
// application an access token belongs to, on which portal and for which user.
//
// An answer that is read wrongly confirms a forgery, and one that is not
// understood must not be taken for a refusal. So what the verdict rests on has
// to be there, and whatever else PHP makes of an empty list, a number or a date
// counts as absent.
package appinfo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/tokenresponse"
)

// maxBody is how many bytes of an answer are read.
const maxBody = 64 << 10

// Info is an answer about a token. What it does not carry is zero.
type Info struct {
	ClientID       string // never empty
	MemberID       string // never empty
	ClientEndpoint string // never empty; as the server wrote it
	UserID         int64
	Scope, Status  string
	Version        int64
	Installed      bool
	Expires        time.Time // the access token's
	PaidUntil      time.Time
}

// Read returns what an answer tells, or else the failure, and closes its body.
func Read(resp *http.Response) (*Info, *tokenresponse.Failure) {
	defer resp.Body.Close()
	failure := &tokenresponse.Failure{StatusCode: resp.StatusCode, RetryAfter: tokenresponse.RetryAfter(resp.Header.Get("Retry-After"))}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		failure.Err = fmt.Errorf("the answer broke off: %w", redact.WithoutURL(err))
		return nil, failure
	case resp.StatusCode/100 == 3:
		failure.Err = errors.New("the answer is a redirect, which is not followed with a token")
		return nil, failure
	case len(data) > maxBody:
		failure.Err = errors.New("the answer is larger than 64 KiB")
		return nil, failure
	}
	var answer object
	if json.Unmarshal(data, &answer) != nil || answer == nil {
		failure.Err = errors.New("the answer is no JSON object")
		return nil, failure
	}
	if code := answer.text("error"); code != "" {
		failure.Code, failure.Description = tokenresponse.ReadableCode(code), answer.text("error_description")
		return nil, failure
	}
	result := answer.object("result")
	install := result.object("install")
	info := &Info{
		ClientID:       result.text("client_id"),
		MemberID:       install.text("member_id"),
		ClientEndpoint: install.text("client_endpoint"),
		UserID:         result.number("user_id"),
		Scope:          result.text("scope"),
		Status:         install.text("status"),
		Version:        install.number("version"),
		Installed:      install.flag("installed"),
		Expires:        result.time("expires"),
		PaidUntil:      install.time("date_finish"),
	}
	if resp.StatusCode != http.StatusOK || info.ClientID == "" || info.MemberID == "" || info.ClientEndpoint == "" {
		failure.Err = errors.New("the answer does not name the application and its portal")
		return nil, failure
	}
	return info, nil
}

// object is a JSON object; nil if it is any other value, such as the empty list
// that PHP makes of one without members.
type object map[string]json.RawMessage

func (o *object) UnmarshalJSON(data []byte) error {
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) == nil {
		*o = members
	}
	return nil
}

func (o object) object(name string) (inner object) {
	if raw, ok := o[name]; ok && json.Unmarshal(raw, &inner) != nil {
		return nil
	}
	return inner
}

// text returns a string or a number, as either is written for the other.
func (o object) text(name string) string {
	var s string
	var n json.Number
	raw := o[name]
	switch {
	case json.Unmarshal(raw, &s) == nil:
		return s
	case json.Unmarshal(raw, &n) == nil:
		return n.String()
	}
	return ""
}

func (o object) number(name string) int64 {
	n, err := strconv.ParseInt(o.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (o object) flag(name string) bool {
	var b bool
	if json.Unmarshal(o[name], &b) == nil {
		return b
	}
	switch strings.ToUpper(o.text(name)) {
	case "1", "Y", "TRUE":
		return true
	}
	return false
}

// time returns an ISO 8601 time.
func (o object) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339, o.text(name))
	if err != nil {
		return time.Time{}
	}
	return t
}
