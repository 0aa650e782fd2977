// A program over Bitrix24's own SDK, as its documentation writes it, for which the
// sandbox is a portal like any other. Standard input is the line that
// b24oauth sandbox --json prints. The Go test reads what it prints.
import { readFileSync } from "node:fs";
import { B24OAuth } from "@bitrix24/b24jssdk";

const sandbox = JSON.parse(readFileSync(0, "utf8"));

// grantOf names what an installation brings as the SDK does.
const grantOf = (g) => ({
	applicationToken: g.application_token, userId: g.user_id, memberId: g.member_id,
	accessToken: g.access_token, refreshToken: g.refresh_token, expires: g.expires, expiresIn: g.expires_in,
	scope: g.scope, domain: g.domain, clientEndpoint: g.client_endpoint, serverEndpoint: g.server_endpoint, status: g.status,
});

const post = async (action) => (await fetch(`${sandbox.portal}/_sandbox/${action}`, {method: "POST"})).json();

const b24 = new B24OAuth(grantOf(await post("install")), {clientId: sandbox.client_id, clientSecret: sandbox.client_secret});
b24.offClientSideWarning();
b24.setCallbackRefreshAuth(async ({b24OAuthParams}) => {
	console.log("refreshed:", b24OAuthParams.clientEndpoint === sandbox.endpoint, b24OAuthParams.userId);
});

const call = async (method, params) => {
	const response = await b24.actions.v2.call.make({method, params});
	if (!response.isSuccess) throw new Error(response.getErrorMessages().join("; "));
	return response.getData().result;
};

console.log("deals:", (await call("crm.deal.list", {filter: {STAGE_ID: "NEW"}})).map((deal) => deal.ID).join(","));
await b24.initIsAdmin();
console.log("administrator:", b24.auth.isAdmin);

await post("expire");
console.log("after the expiry:", (await call("crm.deal.list", {})).length);

const batch = await b24.actions.v2.batch.make({calls: {me: ["profile", {}], any: ["crm.item.get", {id: 7}]}, options: {isHaltOnError: true, returnAjaxResult: false}});
const {me, any} = batch.getData();
console.log("batch:", me.ID, any.params.id);

await post("kill");
await post("expire");
try {
	await call("profile", {});
	console.log("a dead grant works");
} catch {
	console.log("a dead grant is refused");
}
