package authparam_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/b24go/b24oauth/internal/authparam"
	"github.com/google/go-cmp/cmp"
)

func TestQueryKeepsWhatTheCallerWrote(t *testing.T) {
	for _, c := range []struct{ name, query, token, want string }{
		{"empty", "", "t", "auth=t"},
		{"token is escaped", "", "a b&c=%+é", "auth=a+b%26c%3D%25%2B%C3%A9"},
		{"order and escapes", "b=%7e+%2F&a=ü&b=1", "t", "auth=t&b=%7e+%2F&a=ü&b=1"},
		{"odd separators", "&&a=1&", "t", "auth=t&&&a=1&"},
		{"a separator alone", "&", "t", "auth=t&&"},
		{"malformed escapes", "a=%zz&%=%", "t", "auth=t&a=%zz&%=%"},
		{"semicolons", "a=1;auth=2", "t", "auth=t&a=1;auth=2"},
		{"auth first", "auth=x&a=1", "t", "auth=t&a=1"},
		{"auth last", "a=1&auth=x", "t", "auth=t&a=1"},
		{"auth in the middle", "a=1&auth=x&b=2", "t", "auth=t&a=1&b=2"},
		{"auth alone", "auth=x", "t", "auth=t"},
		{"auth several times", "auth&a&auth=y&auth[]=z&b", "t", "auth=t&a&b"},
		{"access_token", "a=1&access_token=x&%61ccess_token=y&access_token[]", "t", "auth=t&a=1"},
		{"access_token as PHP renames it", "access.token=x&access+token&a=1&access%20token[]=y&access[token=z&access%5Btoken", "t", "auth=t&a=1"},
		{"what PHP renames differently", "access[token]=x&access.token.a=1&access_token_=1&accesstoken=1", "t", "auth=t&access[token]=x&access.token.a=1&access_token_=1&accesstoken=1"},
		{"separators around auth", "&auth=x&&", "t", "auth=t&&&"},
	} {
		if diff := cmp.Diff(c.want, authparam.Query(c.query, authparam.Field(c.token))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestQueryReadsNamesAsPHPDoes(t *testing.T) {
	for _, c := range names {
		want := "a=1&" + c.field + "&b=2"
		if c.isAuth {
			want = "a=1&b=2"
		}
		if diff := cmp.Diff(want, authparam.StripQuery("a=1&"+c.field+"&b=2")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.field, diff)
		}
	}
}

func TestStripQueryOfNothingAllocatesNothing(t *testing.T) {
	query := "a=1&fields[auth]=x&&" + strings.Repeat("author=y&", 100)
	allocs := testing.AllocsPerRun(100, func() {
		if authparam.StripQuery(query) != query {
			t.Fatal("changed")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestQueryAllocatesItsResultOnly(t *testing.T) {
	allocs := testing.AllocsPerRun(100, func() { authparam.Query("a=1&auth=x&b=2", "auth=0123456789abcdef") })
	if allocs > 1 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestRemoveTokenTakesOutThatTokenOnly(t *testing.T) {
	for _, c := range []struct{ name, query, token, want string }{
		{"nothing there", "a=1&&b=%2", "t", "a=1&&b=%2"},
		{"as auth", "a=1&auth=t&b=2", "t", "a=1&b=2"},
		{"as access_token", "access_token=t", "t", ""},
		{"in array syntax", "auth[]=t&auth[x]=t&a", "t", "a"},
		{"encoded", "%61uth=%74%2B+&a=1", "t+ ", "a=1"},
		{"another token stays", "auth=u&auth=tt&auth=&auth&auth=t", "t", "auth=u&auth=tt&auth=&auth"},
		{"a longer token stays", "auth=t%", "t", "auth=t%"},
		{"another parameter stays", "token=t&fields[auth]=t", "t", "token=t&fields[auth]=t"},
		{"malformed escapes stand for themselves", "auth=%zz%4&auth=%&auth=%a", "%zz%4", "auth=%&auth=%a"},
		{"cut escapes too", "auth=%&auth=%a&b", "%", "auth=%a&b"},
		{"an equals sign in the token", "auth=a=b", "a=b", ""},
	} {
		if diff := cmp.Diff(c.want, authparam.RemoveToken(c.query, c.token)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// secrets is what PHP finds in a query. TestPHPFindsTheSecretsOfTheTable has
// PHP's own word for it.
var secrets = []struct {
	query string
	bears bool
}{
	{"token=x", true},
	{"a=1&token=x", true},
	{"token", true},
	{"%74oken=x", true},
	{"+%20tok%65n=x", true},
	{"token%00y=x", true},
	{"auth[aplogin]=1&auth[ap]=x", true},
	{"auth%5Baplogin%5D=1&a=1&%61uth%5bap%5d=x", true},
	{"auth[ap]=x&auth[aplogin]=1", true},
	{"auth[aplogin]y=1&auth[ap]y=x", true},
	{"aplogin=1&ap=x", true},
	{"+ap=x&%61plogin=1", true},

	{"", false},
	{"start=50&filter[ID]=1", false},
	{"tokens=x", false},
	{"token[]=x", false},
	{"token[x]=y", false},
	{"TOKEN=x", false},
	{"xtoken=x", false},
	{"a=token=x", false},
	{"filter[token]=x", false},
	{"ap=x", false},
	{"aplogin=1", false},
	{"aplogin=1&auth[ap]=x", false},
	{"auth[aplogin]=1", false},
	{"auth[ap]=x", false},
	{"auth[aplogin][]=1&auth[ap]=x", false},
	{"auth[aplogin=1&auth[ap=x", false},
	{"auth[+aplogin]=1&auth[ap]=x", false},
	{"aplogin[]=1&ap=x", false},
	{"fields[aplogin]=1&fields[ap]=x", false},
	{"token%", false},
	{"t%6", false},
}

func TestQueryWithASecretOfItsOwnIsFound(t *testing.T) {
	for _, c := range secrets {
		if got := authparam.BearsOwnSecret(c.query); got != c.bears {
			t.Errorf("BearsOwnSecret(%q) = %t", c.query, got)
		}
	}
	allocs := testing.AllocsPerRun(100, func() {
		if authparam.BearsOwnSecret("start=50&auth[x]=1&apple=1&filter[%3EID]=7&select[]=ID") {
			t.Fatal("found")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// phpReadsAccessToken reports whether PHP renames a field to access_token.
func phpReadsAccessToken(field string) bool {
	name, _, _ := strings.Cut(field, "=")
	name, _, _ = strings.Cut(strings.TrimLeft(phpDecode(name), " "), "\x00")
	if index, ok := strings.CutPrefix(name, "access["); ok {
		return index == "token"
	}
	return strings.NewReplacer(".", "_", " ", "_").Replace(phpName(field)) == "access_token"
}

func FuzzQuery(f *testing.F) {
	for _, c := range names {
		f.Add(c.field+"&a=1", "token")
		f.Add("&a=%zz&"+c.field, "a b")
	}
	f.Add("&auth=0", "0")
	f.Add("access.token=0&access[token=1&access[token]=2&+access%20token[]", "0")
	f.Add("access_token=%4%41%", "%4A%")
	f.Fuzz(func(t *testing.T, query, token string) {
		var kept, others []string
		for field := range strings.SplitSeq(query, "&") {
			_, value, _ := strings.Cut(field, "=")
			if phpName(field) != "auth" && !phpReadsAccessToken(field) {
				kept = append(kept, field)
				others = append(others, field)
			} else if phpDecode(value) != token {
				others = append(others, field)
			}
		}
		want := strings.Join(kept, "&")
		if diff := cmp.Diff(want, authparam.StripQuery(query)); diff != "" {
			t.Errorf("StripQuery (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(strings.Join(others, "&"), authparam.RemoveToken(query, token)); diff != "" {
			t.Errorf("RemoveToken (-want +got):\n%s", diff)
		}
		if want != "" {
			want = "&" + want
		}
		if diff := cmp.Diff("auth="+url.QueryEscape(token)+want, authparam.Query(query, authparam.Field(token))); diff != "" {
			t.Errorf("Query (-want +got):\n%s", diff)
		}
	})
}
