// A client of balance-cache in Go, with its standard library alone.
//
//	go run client.go read USER [MIN_SEQ]   not older than MIN_SEQ, as BTC:18,USDT:9
//	go run client.go notify JSON           one notification or an array; again until it is acknowledged
//
// BALANCE_CACHE_URL (http://127.0.0.1:3001), BALANCE_CACHE_TOKEN. Exit code 1: no answer that counts.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	tries   = 10
	waitMax = 30 * time.Second
)

// Balance is what a user has of one asset. Amounts are decimal strings of whole units, exact: no float64.
type Balance struct {
	Asset     string `json:"asset"`
	Avail     string `json:"avail"`
	Frozen    string `json:"frozen"`
	Seq       int64  `json:"seq"`
	UpdatedAt *int64 `json:"updated_at"` // milliseconds since 1970
	Unit      string `json:"unit,omitempty"`
}

// Applied says how many notifications were news, and how many were known already.
type Applied struct {
	Applied int `json:"applied"`
	Old     int `json:"old"`
}

// Client asks one instance, or what stands before several.
type Client struct {
	URL, Token string
	HTTP       *http.Client
}

// Read gives all balances of a user, not older than minSeq.
func (c *Client) Read(userID, minSeq string) (balances []Balance, err error) {
	query := url.Values{"user_id": {userID}}
	if minSeq != "" {
		query.Set("min_seq", minSeq)
	}
	return balances, c.ask(http.MethodGet, "/api/user/balance?"+query.Encode(), nil, &balances)
}

// Notify returns nil when every later read shows it. Until then keep it and send it again: repeats are harmless.
func (c *Client) Notify(notifications json.RawMessage) (applied Applied, err error) {
	return applied, c.ask(http.MethodPost, "/api/v1/settlements", notifications, &applied)
}

func (c *Client) ask(method, path string, body []byte, data any) (err error) {
	for try := 0; try < tries; try++ {
		var wait time.Duration
		if wait, err = c.askOnce(method, path, body, data); err == nil || wait == 0 {
			return err
		}
		// A little more than asked for, so that many clients do not come back at once.
		time.Sleep(min(wait, waitMax) + time.Duration(rand.Int63n(int64(time.Second/4))))
	}
	return err
}

// With an error comes the time after which another try may succeed; none: never.
func (c *Client) askOnce(method, path string, body []byte, data any) (time.Duration, error) {
	request, err := http.NewRequest(method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	answer, err := c.HTTP.Do(request)
	if err != nil {
		return time.Second, err
	}
	defer answer.Body.Close()
	envelope := struct {
		Status int
		Msg    string
		Data   json.RawMessage
	}{}
	if err := json.NewDecoder(answer.Body).Decode(&envelope); err != nil {
		return time.Second, err
	}
	if answer.StatusCode == http.StatusOK {
		return 0, json.Unmarshal(envelope.Data, data)
	}
	err = fmt.Errorf("%d/%d: %s", answer.StatusCode, envelope.Status, envelope.Msg)
	if answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusServiceUnavailable {
		return 0, err
	}
	seconds, bad := strconv.Atoi(answer.Header.Get("Retry-After"))
	if bad != nil || seconds < 1 {
		seconds = 1
	}
	return time.Duration(seconds) * time.Second, err
}

func main() {
	client := &Client{
		URL:   "http://127.0.0.1:3001",
		Token: os.Getenv("BALANCE_CACHE_TOKEN"),
		HTTP:  &http.Client{Timeout: 10 * time.Second},
	}
	if named := os.Getenv("BALANCE_CACHE_URL"); named != "" {
		client.URL = named
	}
	words := append(os.Args[1:], "", "", "")
	var data any
	var err error
	switch {
	case words[0] == "read" && words[1] != "":
		data, err = client.Read(words[1], words[2])
	case words[0] == "notify" && words[1] != "":
		data, err = client.Notify(json.RawMessage(words[1]))
	default:
		fmt.Fprintln(os.Stderr, "client.go read USER [MIN_SEQ] | notify JSON")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(data)
}
