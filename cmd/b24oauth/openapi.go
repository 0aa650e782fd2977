package main

import "github.com/spf13/cobra"

func (p *program) openapi() *cobra.Command { return &cobra.Command{Use: "openapi"} }
