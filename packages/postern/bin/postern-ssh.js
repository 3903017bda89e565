#!/usr/bin/env node
import '../dist/postern-ssh.js';
