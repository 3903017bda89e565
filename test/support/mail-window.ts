import type { Thunderbird } from '@postern/testkit/rig';

/** What stands before each script: Thunderbird's own names for its parts. */
const PARTS = `
  const { MailServices } = ChromeUtils.importESModule('resource:///modules/MailServices.sys.mjs');
  const { setTimeout } = ChromeUtils.importESModule('resource://gre/modules/Timer.sys.mjs');
  const until = async (look) => {
    for (;;) {
      const found = await look();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const main = await until(() => Services.wm.getMostRecentWindow('mail:3pane'));
  const panes = await until(() => main.document.getElementById('tabmail')?.currentAbout3Pane);
  const account = MailServices.accounts.accounts.find((it) => it.incomingServer.type === 'imap');
  const server = account.incomingServer;
  const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
  const headerOf = (id) => [...inbox.messages].find((it) => it.messageId === id.replace(/[<>]/g, ''));
  const rowOf = (header) => panes.gDBView.findIndexOfMsgHdr(header, true);
`;

/** A message as the list has it. */
export interface Listed {
  /** In angle brackets. */
  readonly id: string;
  readonly subject: string;
  readonly read: boolean;
}

/** A message as it is shown. */
export interface Shown {
  readonly subject: string;
  readonly from: string;
  /** Its first plain text. */
  readonly text: string;
}

/** Thunderbird's main window and what a person does there. */
export interface MailWindow {
  /** Gives the login manager a password, as ticking its box in the prompt does. */
  remember(login: { readonly host: string; readonly user: string; readonly password: string }): Promise<void>;
  /** What the dialogue behind "Confirm Security Exception" does with a PEM certificate. Resolves with its SHA-256. */
  trust(pem: string, address: { readonly host: string; readonly port: number }): Promise<string>;
  /** Fills the display, opens the inbox, and waits until it lists `count` messages. */
  openInbox(o: { readonly width: number; readonly height: number; readonly count: number }): Promise<void>;
  /** The account's folders, by name. */
  folders(): Promise<string[]>;
  /** Everything in the inbox, as the folder's index has it. */
  list(): Promise<Listed[]>;
  /** The texts of the rows that are on the screen, from the top. */
  rows(): Promise<string[]>;
  /** Clicks a message's row and waits until it is shown. */
  open(id: string): Promise<Shown>;
  /** Waits until `count` messages of the inbox lie in the offline store. */
  offline(count: number): Promise<void>;
  /** Writes a message in a window of its own, sends it, and waits until that window has closed. */
  send(message: { readonly to: string; readonly subject: string; readonly body: string }): Promise<void>;
  /** Waits until the inbox lists this subject by itself; resolves with its id. */
  arrival(subject: string): Promise<string>;
  /** Waits until the named folder of the account holds a message. */
  filled(folder: string): Promise<void>;
}

/** The window of a Thunderbird with one IMAP account. */
export function mailWindow({ marionette }: Thunderbird): MailWindow {
  const run = <T>(body: string, ...args: readonly unknown[]): Promise<T> => marionette.run<T>(PARTS + body, ...args);
  return {
    remember: ({ host, user, password }) =>
      run(
        `const login = Cc['@mozilla.org/login-manager/loginInfo;1'].createInstance(Ci.nsILoginInfo);
        const place = 'imap://' + args[0];
        login.init(place, null, place, args[1], args[2], '', '');
        await Services.logins.addLoginAsync(login);`,
        host,
        user,
        password,
      ),
    trust: (pem, { host, port }) =>
      run(
        `const base64 = args[0].replace(/-----[^-]+-----|\\s/g, '');
        const db = Cc['@mozilla.org/security/x509certdb;1'].getService(Ci.nsIX509CertDB);
        const cert = db.constructX509FromBase64(base64);
        const overrides = Cc['@mozilla.org/security/certoverride;1'].getService(Ci.nsICertOverrideService);
        overrides.rememberValidityOverride(args[1], args[2], {}, cert, false);
        return cert.sha256Fingerprint;`,
        pem,
        host,
        port,
      ),
    openInbox: ({ width, height, count }) =>
      run(
        `main.moveTo(0, 0);
        main.resizeTo(args[0], args[1]);
        panes.displayFolder(inbox.URI);
        await until(() => inbox.getTotalMessages(false) >= args[2] && [...inbox.messages].length >= args[2]);
        await until(() => panes.threadTree.getRowAtIndex(0));`,
        width,
        height,
        count,
      ),
    folders: () => run('return server.rootFolder.subFolders.map((it) => it.name);'),
    list: () =>
      run(
        `return [...inbox.messages].map((it) => ({
          id: '<' + it.messageId + '>',
          subject: (it.flags & Ci.nsMsgMessageFlags.HasRe ? 'Re: ' : '') + it.mime2DecodedSubject,
          read: it.isRead,
        }));`,
      ),
    rows: () =>
      run(
        `const first = panes.threadTree.getFirstVisibleIndex();
        const texts = [];
        for (let index = first; panes.threadTree.getRowAtIndex(index); index += 1)
          texts.push(panes.threadTree.getRowAtIndex(index).textContent.replace(/\\s+/g, ' ').trim());
        return texts;`,
      ),
    async open(id) {
      const at = await run<{ x: number; y: number }>(
        `const header = headerOf(args[0]);
        panes.gDBView.doCommand(Ci.nsMsgViewCommandType.expandAll);
        await until(() => rowOf(header) !== 0xffffffff);
        panes.threadTree.scrollToIndex(rowOf(header), true);
        const row = await until(() => panes.threadTree.getRowAtIndex(rowOf(header)));
        const { x, y, width, height } = row.getBoundingClientRect();
        return {
          x: panes.mozInnerScreenX - main.mozInnerScreenX + x + width / 3,
          y: panes.mozInnerScreenY - main.mozInnerScreenY + y + height / 3,
        };`,
        id,
      );
      await marionette.click(at);
      return run(
        `const reader = panes.messageBrowser.contentWindow;
        const browser = reader.getMessagePaneBrowser();
        const uri = inbox.getUriForMsg(headerOf(args[0]));
        await until(() => reader.gMessageURI === uri && reader.msgLoaded);
        for (const frame of [1, 2]) await new Promise((painted) => browser.contentWindow.requestAnimationFrame(painted));
        return {
          subject: reader.document.getElementById('expandedsubjectBox').textContent,
          from: reader.document.getElementById('expandedfromBox').textContent,
          text: browser.contentDocument.querySelector('.moz-text-plain, .moz-text-flowed').innerText,
        };`,
        id,
      );
    },
    offline: (count) =>
      run(
        `const kept = () => [...inbox.messages].filter((it) => it.flags & Ci.nsMsgMessageFlags.Offline);
        await until(() => kept().length >= args[0]);`,
        count,
      ),
    send: ({ to, subject, body }) =>
      run(
        `const fields = Cc['@mozilla.org/messengercompose/composefields;1'].createInstance(Ci.nsIMsgCompFields);
        [fields.to, fields.subject, fields.body, fields.forcePlainText] = [...args, true];
        const params = Cc['@mozilla.org/messengercompose/composeparams;1'].createInstance(Ci.nsIMsgComposeParams);
        params.composeFields = fields;
        params.type = Ci.nsIMsgCompType.New;
        params.format = Ci.nsIMsgCompFormat.PlainText;
        params.identity = account.defaultIdentity;
        MailServices.compose.OpenComposeWindowWithParams(null, params);
        const written = await until(() => {
          const found = Services.wm.getMostRecentWindow('msgcompose');
          return found?.composeEditorReady && found.gMsgCompose && found;
        });
        written.goDoCommand('cmd_sendNow');
        await until(() => written.closed);`,
        to,
        subject,
        body,
      ),
    arrival: (subject) =>
      run(
        `const found = await until(() => [...inbox.messages].find((it) => it.mime2DecodedSubject === args[0]));
        return '<' + found.messageId + '>';`,
        subject,
      ),
    filled: (folder) =>
      run(
        `await until(() => {
          const found = server.rootFolder.subFolders.find((it) => it.name === args[0]);
          return found && [...found.messages].length > 0;
        });`,
        folder,
      ),
  };
}
