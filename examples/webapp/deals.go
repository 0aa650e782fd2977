package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// titles asks the portal for the titles of its deals.
func (a *application) titles(ctx context.Context, key string) ([]string, error) {
	var deals []struct{ Title string }
	if err := a.call(ctx, key, "crm.deal.list", map[string]any{"select": []string{"ID", "TITLE"}}, &deals); err != nil {
		return nil, err
	}
	titles := make([]string, 0, len(deals))
	for _, deal := range deals {
		titles = append(titles, deal.Title)
	}
	return titles, nil
}

// call calls a method of the portal and reads its result.
func (a *application) call(ctx context.Context, key, method string, params, result any) error {
	endpoint, err := a.config.TokenSource(key).Endpoint(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.JoinPath(method).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.config.Client(key).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct{ Result any }{result}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d, %v", method, resp.StatusCode, err)
	}
	return nil
}
