package check

import (
	"net/http"
	"testing"
)

// Whatever a portal answers, somebody is named who can act, and no more of it is
// told than fits a line.
func FuzzJudge(f *testing.F) {
	f.Add(200, `{"result":{"ID":"1","ADMIN":true}}`)
	f.Add(401, `{"error":"PAYMENT_REQUIRED"}`)
	f.Add(503, `<html>`)
	f.Add(302, ``)
	f.Add(403, `{"error":{"code":"BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION"}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		detail, err := judge(&http.Response{StatusCode: status}, []byte(body))
		if (detail == "") == (err == nil) {
			t.Fatalf("%q, %v", detail, err)
		}
		if err == nil {
			return
		}
		if who, advice := whoActs(err); who == "" || advice == "" || len(err.Error()) > 500 {
			t.Errorf("%v: %s, %s", err, who, advice)
		}
	})
}
