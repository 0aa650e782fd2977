// Package resterror reads the error code in an answer of a portal's REST API,
// which comes in three forms:
//
//	v2      {"error":"expired_token","error_description":"…"}
//	v2 XML  <response><error>expired_token</error>…</response>
//	v3      {"error":{"code":"BITRIX_REST_V3_EXCEPTION_…","message":"…"}}
//
// The code decides and not the status alone: a 401 also stands for missing
// rights, a blocked application or an overload, and a token renewed for one of
// those is a renewal wasted. No other status is about the token: what a method
// says of its own business may look the same, and it has run by then.
package resterror

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
)

// A Verdict is what a 401 says about the access token.
type Verdict int

const (
	Other     Verdict = iota // nothing: leave the response alone
	Refused                  // it is expired or invalid: renew and replay
	Ambiguous                // perhaps that: v3's 401, or a 401 without a body
)

// byteOrderMark may come before an answer.
const byteOrderMark = "\uFEFF"

// Read judges a 401 by the start of its body. The Content-Type is not asked
// for: portals send XML under several, and the body tells by itself.
//
// code is the answer's error code, for logs: empty if there is none, or if it
// is not made of at most 64 ASCII letters, digits and characters of "_.-".
// decided says that no more of the body can change that; if it is false, v is
// the verdict in case that nothing more comes.
func Read(body []byte) (v Verdict, code string, decided bool) {
	start := bytes.TrimLeft(bytes.TrimPrefix(body, []byte(byteOrderMark)), " \t\r\n")
	if len(start) == 0 {
		return Ambiguous, "", false
	}
	if len(body) < len(byteOrderMark) && strings.HasPrefix(byteOrderMark, string(body)) {
		return Other, "", false
	}
	r := &beginning{Reader: bytes.NewReader(start)}
	switch start[0] {
	case '{':
		code = jsonCode(r)
	case '<':
		code = xmlCode(r)
	}
	decided = code != "" || !r.short
	if !isCode(code) {
		return Other, "", decided
	}
	return judge(code), code, decided
}

func judge(code string) Verdict {
	switch strings.ToLower(code) {
	case "expired_token", "invalid_token":
		return Refused
	case "bitrix_rest_v3_exception_accessdeniedexception", "bitrix_rest_v3_exceptions_accessdeniedexception":
		return Ambiguous
	}
	return Other
}

// beginning is as much of something as there is so far.
type beginning struct {
	*bytes.Reader
	short bool // whoever reads it has asked for more
}

func (b *beginning) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.short = b.short || err != nil
	return n, err
}

func (b *beginning) ReadByte() (byte, error) {
	c, err := b.Reader.ReadByte()
	b.short = b.short || err != nil
	return c, err
}

// jsonCode returns the error code of a JSON answer, which starts with a brace
// and may be cut off anywhere after the code.
func jsonCode(r io.Reader) string {
	dec := json.NewDecoder(r)
	dec.Token() // the opening brace
	v := member(dec, "error")
	if v == json.Delim('{') {
		v = member(dec, "code")
	}
	code, _ := v.(string)
	return code
}

// member returns the first token of the value that name has in the object
// that dec is in; nil if there is none. The values before it are skipped, and
// with them whatever they call by that name.
func member(dec *json.Decoder, name string) json.Token {
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil
		}
		if key == name {
			value, err := dec.Token()
			if err != nil {
				return nil
			}
			return value
		}
		var skipped json.RawMessage
		if dec.Decode(&skipped) != nil {
			return nil
		}
	}
	return nil
}

// xmlCode returns the error code of an XML answer, which may be cut off
// anywhere after it. HTML has none.
func xmlCode(r io.Reader) string {
	dec := xml.NewDecoder(r)
	// Codes are ASCII, and so the same in every encoding that portals use.
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	root := nextElement(dec)
	if root == nil || root.Name.Local != "response" {
		return ""
	}
	for child := nextElement(dec); child != nil; child = nextElement(dec) {
		if child.Name.Local == "error" {
			return text(dec)
		}
		if dec.Skip() != nil {
			return ""
		}
	}
	return ""
}

// nextElement returns the next element that starts within the present one;
// nil if there is none.
func nextElement(dec *xml.Decoder) *xml.StartElement {
	for {
		t, err := dec.Token()
		if err != nil {
			return nil
		}
		switch t := t.(type) {
		case xml.StartElement:
			return &t
		case xml.EndElement:
			return nil
		}
	}
}

// text returns what stands in the present element, without the white space
// around it; nothing if there are elements in it, or if it does not end.
func text(dec *xml.Decoder) string {
	var b strings.Builder
	for {
		t, err := dec.Token()
		if err != nil {
			return ""
		}
		switch t := t.(type) {
		case xml.CharData:
			b.Write(t)
		case xml.StartElement:
			return ""
		case xml.EndElement:
			return strings.TrimSpace(b.String())
		}
	}
}

func isCode(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return len(s) <= 64
}
