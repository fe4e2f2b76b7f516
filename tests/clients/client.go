// Asks the cases in turn: go run client.go ADDRESS TOKEN CASES ROUNDS. Prints what was lost.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	address, token, cases := os.Args[1], os.Args[2], os.Args[3]
	rounds, _ := strconv.Atoi(os.Args[4])
	text, _ := os.ReadFile(cases)
	client := &http.Client{Transport: &http.Transport{Proxy: nil}}
	asked, lost := 0, 0
	for round := 0; round < rounds; round++ {
		for _, line := range strings.Split(string(text), "\n") {
			part := strings.Fields(line)
			if len(part) != 6 || strings.HasPrefix(line, "#") {
				continue
			}
			var body io.Reader
			if part[0] == "POST" {
				size, _ := strconv.Atoi(part[4])
				content := strings.Repeat(" ", size)
				if size == 0 {
					content = `{"user_id":1001}`
				}
				body = strings.NewReader(content)
			}
			request, _ := http.NewRequest(part[0], "http://"+address+part[1], body)
			if part[2] == "token" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			if part[3] != "-" {
				request.Header.Set("Content-Type", part[3])
			}
			asked++
			answer, err := client.Do(request)
			status := ""
			if err != nil {
				status = err.Error()
			} else {
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				status = strconv.Itoa(answer.StatusCode)
			}
			if status != part[5] {
				lost++
				fmt.Printf("go: %s %s: %s instead of %s\n", part[0], part[1], status, part[5])
			}
		}
	}
	fmt.Printf("go: %d asked, %d lost\n", asked, lost)
	if lost > 0 {
		os.Exit(1)
	}
}
