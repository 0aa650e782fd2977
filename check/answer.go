package check

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// judge says what a portal's answer to profile means.
func judge(resp *http.Response, data []byte) (string, error) {
	var answer struct {
		Error  json.RawMessage
		Result struct {
			ID    json.RawMessage
			Name  string
			Admin bool
		}
	}
	parsed := json.Unmarshal(data, &answer) == nil
	var code string
	_ = json.Unmarshal(answer.Error, &code) // no string is no code
	switch {
	case resp.StatusCode == http.StatusOK && parsed && len(answer.Result.ID) > 0:
		return fmt.Sprintf("the portal answers; the user is %s (administrator: %t)", strings.Trim(string(answer.Result.ID), `"`), answer.Result.Admin), nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return "", &portalError{Owner, "renew the licence of the self-hosted portal, or see to where it redirects", "the portal redirects every call"}
	case code == "PAYMENT_REQUIRED" || code == "ACCESS_DENIED":
		return "", &portalError{Owner, "the portal's plan does not allow REST calls", "the portal refuses with " + code}
	case code == "QUERY_LIMIT_EXCEEDED" || code == "OPERATION_TIME_LIMIT" || resp.StatusCode >= 500 && code == "":
		return "", &portalError{Nobody, "try again in a minute", fmt.Sprintf("the portal cannot answer at present (status %d)", resp.StatusCode)}
	case code != "":
		return "", &portalError{User, "install the application on the portal again; if that does not help, its rights are missing", fmt.Sprintf("the portal refuses with %.64q (status %d)", code, resp.StatusCode)}
	}
	return "", &portalError{Operator, "see that the stored address is the base of the portal's REST methods", fmt.Sprintf("the portal's answer is not understood (status %d)", resp.StatusCode)}
}

// String tells a person what was found, a line a step.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "grant %q: ", r.Key)
	if r.OK {
		b.WriteString("works\n")
	} else {
		fmt.Fprintf(&b, "does not work; to act: %s: %s\n", r.Who, r.Advice)
	}
	for _, s := range r.Steps {
		mark := "ok    "
		if !s.OK {
			mark = "FAILED"
		}
		fmt.Fprintf(&b, "  %s %-8s %s\n", mark, s.Name, s.Detail)
	}
	return b.String()
}
