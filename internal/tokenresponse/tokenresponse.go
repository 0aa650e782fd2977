// Package tokenresponse reads what an authorization server answered to a token
// request, which is not always what the protocol says: an error with status
// 200, a number as a string, a web page of a proxy in between.
package tokenresponse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/b24go/b24oauth/internal/lifetime"
	"github.com/b24go/b24oauth/internal/redact"
)

const (
	maxBody = 1 << 20 // bytes of an answer that are read

	// MaxRetryAfter is the longest wait that a server is granted, so that a
	// slip there does not silence a grant for days.
	MaxRetryAfter = 10 * time.Minute
)

// Tokens is an answer with an access token in it. What it does not carry is
// zero.
type Tokens struct {
	AccessToken, RefreshToken      string
	Lifetime                       time.Duration // of the access token, from when it was asked for
	Scope, Status, MemberID        string
	UserID                         int64
	ClientEndpoint, ServerEndpoint string // as the server wrote them
}

// Failure is an answer without an access token.
type Failure struct {
	StatusCode  int
	RetryAfter  time.Duration // how long the server asks to be left alone, at most MaxRetryAfter; 0 if it does not
	Code        string        // the server's error code, fit for logs and metrics; "" if it gave none
	Description string        // its words on the code, whole: they may quote what was sent
	Err         error         // what else is wrong, if there is no code
}

// body is that of an answer, success or failure.
type body struct {
	AccessToken, RefreshToken, ExpiresIn, Expires, Scope, Status,
	MemberID, UserID, ClientEndpoint, ServerEndpoint, Error, Description text
}

// text is a JSON string or number, as Bitrix24 writes either for the other.
// Any other value counts as absent.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	switch data[0] {
	case '"':
		return json.Unmarshal(data, (*string)(t))
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		*t = text(data)
	default:
		*t = ""
	}
	return nil
}

// Read returns the tokens in the answer to a request that was sent at that
// time, or else the failure, and closes its body. An answer with both tokens is
// a success, whatever its status, framing or remainder says; it is not read
// beyond the object that they stand in.
func Read(resp *http.Response, sent time.Time) (*Tokens, *Failure) {
	defer resp.Body.Close()
	failure := &Failure{StatusCode: resp.StatusCode, RetryAfter: RetryAfter(resp.Header.Get("Retry-After"))}
	o, data, err := readObject(io.LimitReader(resp.Body, maxBody+1))
	b := o.body
	switch {
	case b.AccessToken != "" && b.RefreshToken != "":
	case o.complete && b.Error != "":
		failure.Code, failure.Description = ReadableCode(string(b.Error)), string(b.Description)
		return nil, failure
	case o.complete && o.alone && resp.StatusCode/100 == 2 && b.AccessToken != "": // a server that does not rotate
	default:
		failure.Err = whatElse(resp, o, data, err)
		return nil, failure
	}
	t := &Tokens{
		AccessToken:    string(b.AccessToken),
		RefreshToken:   string(b.RefreshToken),
		Lifetime:       lifetime.Of(string(b.ExpiresIn), string(b.Expires), sent),
		Scope:          string(b.Scope),
		Status:         string(b.Status),
		MemberID:       string(b.MemberID),
		ClientEndpoint: string(b.ClientEndpoint),
		ServerEndpoint: string(b.ServerEndpoint),
	}
	if id, err := strconv.ParseInt(string(b.UserID), 10, 64); err == nil {
		t.UserID = id
	}
	return t, nil
}

// whatElse says what is wrong with an answer that has neither tokens nor a code.
// Its status comes first: whoever reads of Config.TokenURL under a 503 looks for
// a mistake of his own while the server is under maintenance.
func whatElse(resp *http.Response, o object, data []byte, err error) error {
	if status := resp.StatusCode; status >= 300 && status < 400 {
		return errors.New("the answer is a redirect, which is not followed with the client secret: check Config.TokenURL")
	}
	what := whatBody(o, data, err)
	switch status := resp.StatusCode; {
	case Busy(status):
		return fmt.Errorf("%s; %w", BusyText, what)
	case err != nil && err != io.EOF: // it came from the right place, as far as it came
	case status < 300, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		return fmt.Errorf("%w: if it stays so, check Config.TokenURL", what)
	}
	return what
}

// whatBody says what came in place of an answer.
func whatBody(o object, data []byte, err error) error {
	switch start := bytes.TrimSpace(data); {
	case err != nil && err != io.EOF:
		return fmt.Errorf("the answer broke off: %w", redact.WithoutURL(err))
	case len(data) > maxBody:
		return errors.New("the answer is larger than 1 MiB")
	case len(start) == 0:
		return errors.New("the answer is empty")
	case o.complete && o.alone:
		return errors.New("the answer is neither a token nor an error code")
	case bytes.HasPrefix(start, []byte("<")):
		return errors.New("the answer is a web page instead of JSON")
	}
	return errors.New("the answer is no JSON object, or a damaged one")
}

// BusyText says what a busy server is.
const BusyText = "it is temporarily unavailable"

// Busy reports whether the status alone says that the server cannot answer at
// present.
func Busy(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests || status >= 500
}

// UnreadableCode stands for a code that cannot be shown.
const UnreadableCode = "unreadable_code"

// ReadableCode returns an error code as far as it looks like one: it goes into
// log lines and metrics.
func ReadableCode(s string) string {
	ok := func(r rune) bool {
		return r == '_' || r == '-' || r == '.' || r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r))
	}
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		return UnreadableCode
	}
	return s
}

// RetryAfter reads a Retry-After header, in either form.
func RetryAfter(header string) time.Duration {
	var pause time.Duration
	if s, err := strconv.ParseInt(header, 10, 32); err == nil {
		pause = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		pause = time.Until(at)
	}
	return min(max(pause, 0), MaxRetryAfter)
}
