package bench

import (
	"context"
	"net/http"
	"time"

	"cloud.google.com/go/auth"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	azruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/auth/bearer"
	"golang.org/x/oauth2"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"
)

// others are the libraries that b24oauth is compared with, each in its default
// configuration, since that is what nearly all of its users have.
var others = []library{
	{name: "x/oauth2", over: overOAuth2, mutex: true},
	{name: "client-go", over: overClientGo, mutex: true},
	{name: "google auth", over: overGoogle, mutex: true},
	{name: "aws", over: overAWS},
	{name: "smithy", over: overSmithy},
	{name: "azcore", over: overAzcore},
}

// source is an oauth2.TokenSource, which knows no context: the one that a
// request for a token has is given once, to the constructor.
type source func(context.Context) (token, error)

func (f source) Token() (*oauth2.Token, error) {
	t, err := f(context.Background())
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: t.value, Expiry: t.expiry}, nil
}

func overOAuth2(fetch func(context.Context) (token, error), early time.Duration) func(context.Context) error {
	src := oauth2.ReuseTokenSource(nil, source(fetch))
	if early > 0 {
		src = oauth2.ReuseTokenSourceWithExpiry(nil, source(fetch), early)
	}
	return func(context.Context) error {
		_, err := src.Token()
		return err
	}
}

// client-go logs each failure that it hides, which would bury the results.
func init() { klog.SetLogger(klog.New(nil)) }

// overClientGo takes early off each token's life, because client-go has early
// expiry in NewCachedFileTokenSource only, which fetches nothing. There it is
// subtracted from the expiry as well, so it comes to the same.
func overClientGo(fetch func(context.Context) (token, error), early time.Duration) func(context.Context) error {
	src := transport.NewCachedTokenSource(source(func(ctx context.Context) (token, error) {
		t, err := fetch(ctx)
		t.expiry = t.expiry.Add(-early)
		return t, err
	}))
	return func(context.Context) error {
		_, err := src.Token()
		return err
	}
}

type googleProvider func(context.Context) (token, error)

func (f googleProvider) Token(ctx context.Context) (*auth.Token, error) {
	t, err := f(ctx)
	if err != nil {
		return nil, err
	}
	return &auth.Token{Value: t.value, Expiry: t.expiry}, nil
}

// overGoogle needs no early: its default is 3 min 45 s, in the background.
func overGoogle(fetch func(context.Context) (token, error), _ time.Duration) func(context.Context) error {
	provider := auth.NewCachedTokenProvider(googleProvider(fetch), nil)
	return func(ctx context.Context) error {
		_, err := provider.Token(ctx)
		return err
	}
}

func overAWS(fetch func(context.Context) (token, error), early time.Duration) func(context.Context) error {
	provider := aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		t, err := fetch(ctx)
		if err != nil {
			return aws.Credentials{}, err
		}
		return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret", SessionToken: t.value, CanExpire: true, Expires: t.expiry}, nil
	})
	cache := aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow = early // 0 is the default
	})
	return func(ctx context.Context) error {
		_, err := cache.Retrieve(ctx)
		return err
	}
}

func overSmithy(fetch func(context.Context) (token, error), early time.Duration) func(context.Context) error {
	provider := bearer.TokenProviderFunc(func(ctx context.Context) (bearer.Token, error) {
		t, err := fetch(ctx)
		if err != nil {
			return bearer.Token{}, err
		}
		return bearer.Token{Value: t.value, CanExpire: true, Expires: t.expiry}, nil
	})
	cache := bearer.NewTokenCache(provider, func(o *bearer.TokenCacheOptions) {
		o.RefreshBeforeExpires = early // 0 is the default
	})
	return func(ctx context.Context) error {
		_, err := cache.RetrieveBearerToken(ctx)
		return err
	}
}

type azureCredential func(context.Context) (token, error)

func (f azureCredential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := f(ctx)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return azcore.AccessToken{Token: t.value, ExpiresOn: t.expiry}, nil
}

// served answers every request at once.
type served struct{}

func (served) Do(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// overAzcore sends a request, since the cache is a part of the pipeline, which
// gives a token to https only. It needs no early: its default is 5 min.
func overAzcore(fetch func(context.Context) (token, error), _ time.Duration) func(context.Context) error {
	authorize := azruntime.NewBearerTokenPolicy(azureCredential(fetch), []string{"scope"}, nil)
	pipeline := azruntime.NewPipeline("bench", "v0.0.0",
		azruntime.PipelineOptions{PerRetry: []policy.Policy{authorize}},
		&policy.ClientOptions{Transport: served{}})
	return func(ctx context.Context) error {
		req, err := azruntime.NewRequest(ctx, http.MethodGet, "https://portal.example/")
		if err != nil {
			return err
		}
		resp, err := pipeline.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
}
