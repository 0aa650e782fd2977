package b24test

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// maxBatch is how many commands a batch may have.
const maxBatch = 50

// run answers a call whose token is good.
func (c call) run(who owner) Answer {
	if c.method != "batch" {
		return c.dialect.success(c.started, execute(c.method, c.params, who))
	}
	if c.dialect == v3 {
		return c.runBatchV3(who)
	}
	return c.runBatch(who)
}

// execute is every method there is.
func execute(method string, params map[string]any, who owner) any {
	if method == "profile" {
		return map[string]any{
			"ID":        strconv.FormatInt(who.user, 10),
			"ADMIN":     !who.employee,
			"NAME":      "Test",
			"LAST_NAME": "User " + strconv.FormatInt(who.user, 10),
		}
	}
	echo := make(map[string]any, len(params))
	maps.Copy(echo, params)
	delete(echo, "auth")
	delete(echo, "access_token")
	return map[string]any{"method": method, "params": echo}
}

// runBatch runs the commands in cmd, a list or a map of method?query, and
// answers under their keys. The error of a command comes under status 200.
func (c call) runBatch(who owner) Answer {
	commands, keys := batchCommands(c.params["cmd"])
	if len(keys) > maxBatch {
		return c.dialect.failure(http.StatusBadRequest, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
	}
	results, failures, times := newPHPArray(), newPHPArray(), newPHPArray()
	for _, key := range keys {
		method, query, _ := strings.Cut(commands[key], "?")
		if method == "batch" {
			failures.set(key, map[string]any{
				"error":             "ERROR_BATCH_METHOD_NOT_ALLOWED",
				"error_description": "Method is not allowed for batch usage",
			})
			continue
		}
		results.set(key, execute(method, parseFields(query), who))
		times.set(key, timing(c.started))
	}
	return c.dialect.success(c.started, map[string]any{
		"result":       results.value(),
		"result_error": failures.value(),
		"result_total": []any{},
		"result_next":  []any{},
		"result_time":  times.value(),
	})
}

// batchCommands are the commands of a batch under their keys, with the keys
// in the order of execution.
func batchCommands(cmd any) (commands map[string]string, keys []string) {
	commands = make(map[string]string)
	add := func(key string, command any) {
		commands[key] = fmt.Sprint(command)
		keys = append(keys, key)
	}
	switch cmd := cmd.(type) {
	case []any:
		for i, command := range cmd {
			add(strconv.Itoa(i), command)
		}
	case map[string]any:
		for _, key := range sortedKeys(cmd) {
			add(key, cmd[key])
		}
	}
	return commands, keys
}

// runBatchV3 runs a list of {"method":…,"query":{…}} and answers a list.
func (c call) runBatchV3(who owner) Answer {
	results := []any{}
	for _, item := range c.list {
		command, _ := item.(map[string]any)
		method, _ := command["method"].(string)
		query, _ := command["query"].(map[string]any)
		results = append(results, execute(method, query, who))
	}
	return c.dialect.success(c.started, results)
}
