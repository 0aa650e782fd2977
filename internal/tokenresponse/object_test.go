package tokenresponse_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/b24go/b24oauth/internal/tokenresponse"
)

const whole = `{"access_token":"new access","refresh_token":"new refresh","expires_in":3600,"user_id":67}`

// endless is a body whose end never comes: a Read beyond what is there fails
// the test.
type endless struct {
	io.Reader
	t *testing.T
}

func (e endless) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err == io.EOF {
		e.t.Error("the end of the answer was waited for")
	}
	return n, err
}

func TestBothTokensAreTakenHoweverTheAnswerIsFramed(t *testing.T) {
	reset := errors.New("connection reset by peer")
	for name, c := range map[string]struct {
		status int
		body   io.Reader
	}{
		"as it should be":                         {200, strings.NewReader(whole)},
		"status 500":                              {500, strings.NewReader(whole)},
		"status 302":                              {302, strings.NewReader(whole)},
		"status 429":                              {429, strings.NewReader(whole)},
		"an error code beside them":               {200, strings.NewReader(`{"error":"invalid_grant",` + whole[1:])},
		"a reset after the last byte":             {200, io.MultiReader(strings.NewReader(whole), iotest.ErrReader(reset))},
		"the last chunk missing":                  {200, io.MultiReader(strings.NewReader(whole), iotest.ErrReader(io.ErrUnexpectedEOF))},
		"an end that never comes":                 {200, endless{strings.NewReader(whole), t}},
		"a notice of PHP's before them":           {200, strings.NewReader("<br />\n<b>Notice</b>: Undefined index: {x} in <b>/a.php</b>\n" + whole)},
		"a warning with an object before them":    {200, strings.NewReader(`Warning: {"level":2} ` + whole)},
		"a byte order mark before them":           {200, strings.NewReader("\ufeff" + whole)},
		"something after them":                    {200, strings.NewReader(whole + "<!-- 12 ms -->")},
		"another object after them":               {200, strings.NewReader(whole + `{"error":"invalid_grant"}`)},
		"byte by byte":                            {200, iotest.OneByteReader(strings.NewReader("Notice {\n" + whole))},
		"a trailing comma behind them":            {200, strings.NewReader(whole[:len(whole)-1] + ",}")},
		"a notice within, behind them":            {200, strings.NewReader(`{"access_token":"new access","refresh_token":"new refresh","expires_in":3600<br /><b>Notice</b>: x`)},
		"a raw newline in a string behind them":   {200, strings.NewReader(`{"access_token":"new access","refresh_token":"new refresh","scope":"a` + "\n" + `b"}`)},
		"an error in a notice before them":        {200, strings.NewReader(`Warning: {"error":2} ` + whole)},
		"behind an object that was cut":           {200, strings.NewReader(`Notice: {"level": ` + whole)},
		"behind an object with one token":         {200, strings.NewReader(`{"access_token":"old"}` + whole)},
		"within another object":                   {200, strings.NewReader(`{"result":` + whole + `}`)},
		"broken off behind them":                  {200, strings.NewReader(whole[:strings.Index(whole, `,"expires_in"`)])},
		"broken off in a member behind them":      {200, io.MultiReader(strings.NewReader(whole[:strings.Index(whole, `3600`)+2]), iotest.ErrReader(reset))},
		"broken off in a string behind them":      {200, strings.NewReader(`{"refresh_token":"new refresh","access_token":"new access","scope":"cr`)},
		"members in another order and other case": {200, strings.NewReader(`{"Refresh_Token":"new refresh","ACCESS_TOKEN":"new access"}`)},
	} {
		got, failure := tokenresponse.Read(&http.Response{StatusCode: c.status, Body: io.NopCloser(c.body)}, sent)
		if failure != nil {
			t.Errorf("%s: %+v", name, failure)
			continue
		}
		if got.AccessToken != "new access" || got.RefreshToken != "new refresh" {
			t.Errorf("%s: %+v", name, got)
		}
		if strings.Contains(name, "broken off") && (got.Lifetime != time.Hour || got.UserID != 0 || got.Scope != "") {
			t.Errorf("%s: half a value was taken: %+v", name, got)
		}
	}
}

func TestAnswerWithOneNewTokenIsNoneUnlessItIsWhole(t *testing.T) {
	reset := errors.New("connection reset by peer")
	for name, c := range map[string]struct {
		body io.Reader
		says string
	}{
		"broken off before the second":       {io.MultiReader(strings.NewReader(`{"access_token":"new access","refresh_tok`), iotest.ErrReader(reset)), "broke off"},
		"broken off within the second":       {strings.NewReader(`{"access_token":"new access","refresh_token":"new ref`), "damaged"},
		"a code that breaks off is none":     {strings.NewReader(`{"error":"invalid_grant","error_des`), "damaged"},
		"a code within something is none":    {strings.NewReader(`{"result":{"error":"invalid_grant"}}`), "neither"},
		"one token within something is none": {strings.NewReader(`{"result":{"access_token":"a"}}`), "neither"},
		"an array of answers is one answer":  {strings.NewReader(`[{"access_token":"a"`), "damaged"},
	} {
		got, failure := tokenresponse.Read(&http.Response{StatusCode: 200, Body: io.NopCloser(c.body)}, sent)
		if failure == nil || failure.Code != "" || !strings.Contains(failure.Err.Error(), c.says) {
			t.Errorf("%s: %+v, %+v; want an error that says %q", name, got, failure, c.says)
		}
	}
}

func TestHugeAnswerOfManyObjectsIsReadInTime(t *testing.T) {
	for name, body := range map[string]string{
		"nested arrays":  strings.Repeat(`{"a":[`, 1<<16),
		"nested objects": strings.Repeat(`{"a":`, 1<<17),
		"flat objects":   "[" + strings.Repeat(`{"a":1},`, 1<<16),
		"one object":     "{" + strings.Repeat(`"a":1,`, 1<<17),
		"braces":         strings.Repeat("{", 1<<20),
	} {
		read := make(chan struct{})
		go func() {
			defer close(read)
			if _, failure := tokenresponse.Read(&http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}, sent); failure == nil {
				t.Errorf("%s: tokens", name)
			}
		}()
		select {
		case <-read:
		case <-time.After(30 * time.Second): // it took minutes
			t.Fatalf("%s: not within 30s", name)
		}
	}
}
