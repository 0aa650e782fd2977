package sandbox

import (
	"net/http"

	"github.com/b24go/b24oauth/b24test"
)

// answerTime is the time that clients look for in every answer.
const answerTime = `"time":{"start":1780315782.1,"finish":1780315782.2,"duration":0.1,"processing":0.1,"date_start":"2026-06-01T12:09:42+00:00","date_finish":"2026-06-01T12:09:42+00:00","operating":0}`

// seed makes the portal answer a few methods with something to show, where it would
// answer all others with what it understood.
func seed(srv *b24test.Server) {
	for method, body := range map[string]string{
		"crm.deal.list": `{"result":[` +
			`{"ID":"1","TITLE":"A first deal","STAGE_ID":"NEW","OPPORTUNITY":"1200.00","CURRENCY_ID":"EUR","CONTACT_ID":"1"},` +
			`{"ID":"2","TITLE":"<b>A second one</b>","STAGE_ID":"PREPARATION","OPPORTUNITY":"350.50","CURRENCY_ID":"EUR","CONTACT_ID":"2"},` +
			`{"ID":"3","TITLE":"Straße, 東京, и т. д.","STAGE_ID":"WON","OPPORTUNITY":"0.00","CURRENCY_ID":"EUR","CONTACT_ID":"1"}` +
			`],"total":3,` + answerTime + `}`,
		"crm.contact.list": `{"result":[` +
			`{"ID":"1","NAME":"Ada","LAST_NAME":"Lovelace","EMAIL":[{"ID":"1","VALUE_TYPE":"WORK","VALUE":"ada@example.com","TYPE_ID":"EMAIL"}]},` +
			`{"ID":"2","NAME":"Zoë","LAST_NAME":"O'Brien","EMAIL":[{"ID":"2","VALUE_TYPE":"WORK","VALUE":"zoe@example.com","TYPE_ID":"EMAIL"}]}` +
			`],"total":2,` + answerTime + `}`,
	} {
		srv.On(method, b24test.Answer{Status: http.StatusOK, Body: body})
	}
}
